"""`SupervisedTwin`: the same student trained on labels, beside a run taught by a teacher."""

import logging
import shutil
from pathlib import Path
from typing import Any, cast

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from lkd.callbacks.report import TWIN
from lkd.teachers.recipe import fit

log = logging.getLogger(__name__)


class SupervisedTwin(Callback):
    """Callback that trains a run's twin before the run itself: the same student, on labeled data alone.

    The twin is a process of its own. It writes to `twin/` in the run's folder, where `DetectionReport` finds
    its figures, and its configuration is `twin.yaml` there. It does not affect the run. A resumed run takes
    the twin that was trained before, if it has the same configuration.

    Raises:
        ValueError: If the run has no distillation, or logs nowhere.
        RuntimeError: If the twin's run fails.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that there can be a twin, before a teacher is trained."""
        if stage == "fit" and not trainer.loggers and not cast(Any, trainer).fast_dev_run:
            raise ValueError(
                "supervised_twin=true writes into the run's folder, and there is none with "
                "logger=false: give a logger."
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Trains the twin, or takes the one that exists."""
        run = trainer.log_dir  # on every rank: it is broadcast
        if trainer.is_global_zero and run is not None and not cast(Any, trainer).fast_dev_run:
            config = yaml.safe_load((Path(run) / "config.yaml").read_text(encoding="utf-8"))
            path, twin = Path(run) / "twin.yaml", twin_of(config, run)
            path.write_text(yaml.safe_dump(twin, sort_keys=False), encoding="utf-8")
            if (before := _trained(trainer.ckpt_path, twin)) is not None:
                log.info("The supervised twin is that of %s.", before.parent)
                shutil.copytree(before, Path(run) / TWIN, dirs_exist_ok=True)
            else:
                _train(path, Path(run))
        trainer.strategy.barrier()


def _train(path: Path, run: Path) -> None:
    log.info("Training the supervised twin by %s: the same student and frames, with labels.", path)
    if wrong := fit(str(path), run / "twin.done"):
        raise RuntimeError(
            f"the supervised twin's run {wrong}; it is fit --config {path}, and --supervised_twin=false does without it."
        )


def _trained(checkpoint: Any, twin: dict[str, Any]) -> Path | None:
    """Returns the folder of the resumed run's twin, if it is complete and equally configured, or None."""
    if checkpoint is None:
        return None
    for run in Path(checkpoint).absolute().parents[:2]:
        path, done = run / "twin.yaml", run / TWIN / "report/table.csv"
        if path.is_file() and done.is_file():
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
            return run / TWIN if _without_folder(found) == _without_folder(twin) else None
    return None


def _without_folder(twin: dict[str, Any]) -> dict[str, Any]:
    return {**twin, "trainer": {**twin["trainer"], "logger": None}}


def twin_of(config: dict[str, Any], run: str) -> dict[str, Any]:
    """Makes the twin's configuration.

    Args:
        config: The complete configuration of the run.
        run: The run's folder.

    Raises:
        ValueError: If the run has no distillation.
    """
    if not config.get("distillation"):
        raise ValueError(
            "supervised_twin=true is for a run with a distillation; this one learns from labels itself."
        )
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": run, "name": "", "version": TWIN}}
    trainer = {**config["trainer"], "logger": logger}
    trainer["callbacks"] = [_elsewhere(callback) for callback in trainer["callbacks"] or []]
    own: dict[str, Any] = {
        "distillation": None,
        "supervised_twin": False,
        "ckpt_path": None,
        "more_loggers": [],
        "trainer": trainer,
    }
    return {**config, **own, "data": _labeled(config["data"])}


def _elsewhere(callback: dict[str, Any]) -> dict[str, Any]:
    """Makes a callback write into its own run, and not measure the start, which is that of the run."""
    given = callback.get("init_args") or {}
    return {
        **callback,
        "init_args": {k: v for k, v in given.items() if k not in ("dirpath", "folder", "before")},
    }


def _labeled(data: Any) -> Any:
    """Returns a data module's configuration, with labels."""
    if not isinstance(data, dict):
        return data
    return {k: False if k == "unlabeled" else _labeled(v) for k, v in data.items()}
