"""One `metrics.csv` for a run that continues, as Lightning's CSVLogger begins another one at each start."""

import csv
import logging
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

log = logging.getLogger(__name__)


def carry_over(trainer: Trainer, checkpoint: Path, step: int) -> None:
    """Writes the rows up to a checkpoint into the table of the run that continues from it.

    They are read from the `metrics.csv` in the folder of the checkpoint or in the one above, where CSVLogger
    has it.

    Args:
        trainer: Trainer of the new run, which has logged nothing yet.
        checkpoint: Checkpoint that the run continues from.
        step: Its step, as loggers count.
    """
    loggers = [logger for logger in trainer.loggers if isinstance(logger, CSVLogger)]
    if not loggers or not trainer.is_global_zero:
        return
    tables = (checkpoint.absolute().parents[level] / "metrics.csv" for level in (0, 1))
    table = next((file for file in tables if file.is_file()), None)
    if table is None:
        log.info("No metrics.csv by %s: that of this run begins at step %d.", checkpoint, step)
        return
    with table.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
    for logger in loggers:
        for row in rows:
            values = {key: value for key, value in row.items() if key != "step" and value}
            logger.experiment.log_metrics(values, int(row["step"]))
        logger.save()
        log.info("%s begins with the %d rows of %s.", Path(logger.log_dir) / "metrics.csv", len(rows), table)
