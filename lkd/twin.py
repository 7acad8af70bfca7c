"""`SupervisedTwin`: the same student trained on labels, beside a run taught by a teacher."""

import logging
import shutil
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator

from lkd.callbacks.report import TWIN
from lkd.teachers.recipe import Fit

log = logging.getLogger(__name__)


class SupervisedTwin(Callback):
    """Callback that trains a run's twin: the same student, on labeled data alone.

    The twin is a process of its own. It writes to `twin/` in the run's folder, where `DetectionReport` finds
    its figures, and its configuration is `twin.yaml` there. It does not affect the run. On a CPU with several
    threads it runs beside the run, each with half of them; else before it. A resumed run takes the twin that
    was trained before, if it has the same configuration, and resumes one that was interrupted.

    Raises:
        ValueError: If the run has no distillation, or logs nowhere.
        RuntimeError: If the twin's run fails.
    """

    def __init__(self) -> None:
        self._fit: Fit | None = None
        self._threads = torch.get_num_threads()
        self._wrong: str | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that there can be a twin, before a teacher is trained."""
        if stage == "fit" and not trainer.loggers and not cast(Any, trainer).fast_dev_run:
            raise ValueError(
                "supervised_twin=true writes into the run's folder, and there is none with "
                "logger=false: give a logger."
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the twin, or takes the one that exists."""
        run = trainer.log_dir  # on every rank: it is broadcast
        if trainer.is_global_zero and run is not None and not cast(Any, trainer).fast_dev_run:
            config = yaml.safe_load((Path(run) / "config.yaml").read_text(encoding="utf-8"))
            self._path, twin = Path(run) / "twin.yaml", twin_of(config, run)
            self._path.write_text(yaml.safe_dump(twin, sort_keys=False), encoding="utf-8")
            before = _before(trainer.ckpt_path, twin)
            if before is not None and (before / "report/table.csv").is_file():
                log.info("The supervised twin is that of %s.", before.parent)
                shutil.copytree(before, Path(run) / TWIN, dirs_exist_ok=True)
            else:
                self._begin(trainer, Path(run) / "twin.done", _goes_on(before))
        trainer.strategy.barrier()

    def _begin(self, trainer: Trainer, done: Path, options: list[str]) -> None:
        log.info("Training the supervised twin by %s: the same student and frames, with labels.", self._path)
        self._threads = torch.get_num_threads()
        beside = isinstance(trainer.accelerator, CPUAccelerator) and trainer.world_size == 1
        twins = self._threads // 2 if beside else 0
        self._fit = Fit(str(self._path), done, *options, threads=twins or None)
        if twins:
            torch.set_num_threads(self._threads - twins)
        else:
            self._wait()
            self.check()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks that the twin has not failed, so that nobody waits for a report without it."""
        if self._fit is not None and self._fit.failed:
            self._wait()
            self.check()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Waits for the twin; whether it has failed is said by `check`, once the student is saved and tested."""
        self._wait()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ends the twin with the run; the twin saves its state."""
        if self._fit is not None:
            self._fit.end()
            self._fit = None
        torch.set_num_threads(self._threads)

    def _wait(self) -> None:
        self._wrong = self._fit.wrong() if self._fit is not None else self._wrong
        self._fit = None
        torch.set_num_threads(self._threads)

    def check(self) -> None:
        """Raises RuntimeError if the twin's run has failed."""
        if self._wrong:
            raise RuntimeError(
                f"the supervised twin's run {self._wrong}; it is fit --config {self._path}, and --supervised_twin=false does without it."
            )


def _before(checkpoint: Any, twin: dict[str, Any]) -> Path | None:
    """Returns the folder of the resumed run's twin, if it is equally configured, or None."""
    if checkpoint is None:
        return None
    for run in Path(checkpoint).absolute().parents[:2]:
        path = run / "twin.yaml"
        if path.is_file():
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
            return run / TWIN if _without_folder(found) == _without_folder(twin) else None
    return None


def _goes_on(before: Path | None) -> list[str]:
    """Returns the option that resumes a twin from its last checkpoint."""
    found = list(before.glob("checkpoints/*.ckpt")) if before is not None else []
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    return [] if newest is None else [f"--ckpt_path={newest}"]


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
        "save_as": None,
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
