"""The tables of a comparison for W&B."""

from pathlib import Path
from typing import Any

from lkd.compare.results import GridResults
from lkd.compare.summary import summarize


def to_wandb(results: GridResults, folder: Path, options: dict[str, Any]) -> None:
    """Logs the tables of results, curves and clients, and the page, as one run.

    Args:
        results: Results of the runs.
        folder: Folder with the report.
        options: Options of the base configuration's WandbLogger.
    """
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    given = {name: value for name, value in options.items() if value is not None}
    logger = WandbLogger(**{**given, "name": results.grid.title})
    tables = {"results": summarize(results), "curves": results.curves, "clients": results.clients}
    for name, rows in tables.items():
        if rows:
            data = [list(row.values()) for row in rows]
            logger.log_table(f"compare/{name}", columns=list(rows[0]), data=data)
    page = (folder / "report.html").read_text(encoding="utf-8")
    logger.experiment.log({"compare/report": wandb.Html(page, inject=False)})
    run: Any = logger.experiment
    where = f"offline: {run.dir.removesuffix('/files')}" if run.offline else run.url
    wandb.finish()
    print(f"W&B has the tables, too ({where}).")
