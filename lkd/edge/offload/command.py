"""The verb `offload`: a student, a teacher and a budget in, curves and an operating point out."""

from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningDataModule

from lkd.edge.of_student import OfStudent, with_student
from lkd.edge.offload.cascade import offload
from lkd.edge.offload.point import Point
from lkd.edge.offload.report import SHOWN, TITLE
from lkd.leaderboard.of_table import study_of_table
from lkd.leaderboard.origin import Origin, origin
from lkd.leaderboard.study import write_study
from lkd.metrics.tables import Row, read_table

_OF_RUN = frozenset({"module", "data", "ckpt_path", "folder", "config", "loggers", "seed"})

YARDSTICKS = ("device-only", "server-only", "random", "oracle")
"""Arms that say what others are worth, and cannot win."""


class _Offload(OfStudent):
    verb, function, of_run = "offload", staticmethod(offload), _OF_RUN

    def _parse_ckpt_path(self) -> None:
        """Reads the checkpoint's settings, unless the student is a file."""
        if self.config["exported"] is None or self.config["ckpt_path"] is not None:
            super()._parse_ckpt_path()


def run(args: list[str]) -> Point:
    """Measures the cascade.

    Args:
        args: Options of a `fit`, and those of `lkd.edge.offload.offload`.

    Returns:
        The operating point.
    """
    made = origin()
    cli = _Offload.parsed("offload", __doc__, with_student(args), seeded=True)
    config: dict[str, Any] = cli.config.clone().as_dict()
    config.pop("config", None)
    folder = cli.config["folder"] or str(Path("runs", cli.name, "offload"))
    seed = cli.config["seed_everything"] if type(cli.config["seed_everything"]) is int else 0
    point = offload(
        cli.model,
        cast(LightningDataModule, cli.datamodule),
        cli.config["ckpt_path"],
        folder=folder,
        seed=seed,
        loggers=cli.of_wandb(),
        config=config,
        **cli.made_options(),
    )
    _record(Path(folder), args, seed, made)
    print(f"{folder}/points.md, and curves.csv, curves.png and study.json beside it")
    return point


def _record(folder: Path, args: list[str], seed: int, made: Origin) -> None:
    """Writes the shown rows of the curves as a study; the metric's column is the one behind the bytes."""
    rows = read_table(folder / "curves.csv")
    columns = list(rows[0])
    own = [row["arm"] for row in rows if row["share"] == ""]

    def method(row: Row) -> str | None:
        share = row["share"]
        if share == "" and own.count(row["arm"]) == 1:  # a point of its own
            return str(row["arm"])
        if share == "":  # one of several of an arm
            return f"{row['arm']}, {row['sent']:.1%} sent".replace("%", " %")
        return f"{row['arm']}, {share:.0%}".replace("%", " %") if share in SHOWN else None

    study = study_of_table(
        rows,
        method,
        metric=columns[columns.index("kB") + 1],
        title=f"{TITLE}: {folder.parent.name}",
        verb="offload",
        args=args,
        seed=seed,
        made=made,
        baselines=[name for row in rows if row["arm"] in YARDSTICKS and (name := method(row))],
    )
    write_study(study, folder / "study.json")
