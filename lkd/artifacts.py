"""Files that belong to a run, kept by loggers that keep files: W&B's artifacts, MLflow's."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger


def keep_artifact(loggers: Iterable[Logger], name: str, paths: Sequence[Path]) -> None:
    """Gives files to the loggers of a run; those that keep no files (CSV, TensorBoard) get none.

    Args:
        loggers: Loggers of the run. W&B's keep an artifact of type `model`; MLflow's a folder.
        name: Name of the artifact; characters that W&B does not take become `_`.
        paths: The files, such as a student and its card.
    """
    name = re.sub(r"[^\w.-]+", "_", name)
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb  # takes a second, and most runs have no account

            artifact = wandb.Artifact(name, type="model")
            for path in paths:
                artifact.add_file(str(path))
            logger.experiment.log_artifact(artifact)
        elif isinstance(logger, MLFlowLogger):
            for path in paths:
                logger.experiment.log_artifact(logger.run_id, str(path), artifact_path=name)
