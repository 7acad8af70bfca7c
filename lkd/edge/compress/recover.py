"""Recovery: a pruned student is trained again, on labels, by distillation, or by both."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint, Timer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.callbacks import DetectionReport, Distillation, EpochLines
from lkd.checks import expect
from lkd.edge.compress.parent import Parent
from lkd.edge.compress.resume import BEGUN
from lkd.edge.compress.step import Job, Stage, Step
from lkd.edge.compress.student import student
from lkd.edge.described import described
from lkd.edge.exported import sha256
from lkd.metrics.direction import rises
from lkd.pruned import KEY

log = logging.getLogger(__name__)


class Recover(Step):
    """Step that trains a stage's student on the configuration's data, with its Trainer and callbacks.

    Without `distillation` it learns from labels alone. A `Distillation` adds a teacher: the dense student
    (`Parent`) or another one, such as the oracle. Its `alpha` says how much the labels count; with 0 no
    labels are needed. The configuration's own `distillation` is not used, since the recovery's is given here.
    Feature terms work: where the pruned student is narrower, those with adapters bridge the widths.

    `max_time` and callbacks of the configuration may end it early, and the table of stages then says so.

    An interrupted recovery continues from `last.ckpt` in the stage's folder.

    Args:
        epochs: Number of epochs.
        distillation: `Distillation` callbacks, none or several.
        monitor: Metric by which the best epoch is kept, such as `"val/map"`. Default: the last epoch is kept.
        optimizer: Function that makes the optimizer; default: that of the module's configuration.
        scheduler: Function that makes the scheduler; default: that of the module's configuration.

    Raises:
        ValueError: For less than one epoch.
        TypeError: For other callbacks than `Distillation`.

    Example:
        >>> from lkd.losses import KD
        >>> Recover(5, [Distillation(Parent(), [KD(temperature=4.0)], alpha=0.5)]).epochs
        5
    """

    name, mends = "recover", True

    def __init__(
        self,
        epochs: int,
        distillation: Sequence[Callback] = (),
        monitor: str | None = None,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        expect(epochs=epochs, ge=1)
        for callback in distillation:
            if not isinstance(callback, Distillation):
                raise TypeError(
                    f"distillation has a {type(callback).__name__}, and takes Distillation callbacks; others stand in trainer.callbacks."
                )
        self.epochs, self.distillation, self.monitor = epochs, list(distillation), monitor
        self.optimizer, self.scheduler = optimizer, scheduler
        self._how = described(
            {k: v for k, v in vars(self).items() if k != "epochs"}
        )  # before a fit changes any

    def check(self, module: LightningModule, data: LightningDataModule) -> None:
        """Refuses an optimizer that the module does not take."""
        for name in ("optimizer", "scheduler"):
            if getattr(self, name) is not None and not hasattr(module, name):
                raise ValueError(
                    f"Recover({name}=...): {type(module).__name__} has no attribute {name!r} that makes it: leave it out, and the module's "
                    "configure_optimizers says it."
                )

    def run(self, stage: Stage, job: Job) -> Stage:
        """Trains; the checkpoint is `last.ckpt`, or with a monitor `best.ckpt`."""
        if stage.checkpoint is None or job.parent.checkpoint is None:
            raise ValueError(
                f"the stage {stage.name!r} is a file alone, and recovery needs its weights: recover before that."
            )
        module = student(job.config_module, stage.checkpoint)
        if hasattr(module, KEY):
            thaw(module)
        for name in ("optimizer", "scheduler"):
            if getattr(self, name) is not None:
                setattr(module, name, getattr(self, name))
        for parent in (
            p
            for c in self.distillation
            for p in cast(Distillation, c).teacher.modules()
            if isinstance(p, Parent)
        ):
            parent.become(student(job.config_module, job.parent.checkpoint))
        trainer, keeper = self._trainer(job)
        last = job.folder / "last.ckpt"
        self._begin(job, stage.checkpoint, last)
        trainer.fit(
            module, datamodule=job.data, ckpt_path=str(last) if last.is_file() else None, weights_only=True
        )
        if trainer.interrupted:
            raise KeyboardInterrupt
        path = last if self.monitor is None else job.folder / "best.ckpt"
        best = (
            f", the best by {self.monitor} ({float(keeper.best_model_score):.4f})"
            if keeper.best_model_score is not None
            else ""
        )
        log.info("%s keeps %s%s", job.name, path, best or ", the last epoch")
        return Stage(job.name, job.folder, path, note=self._early(trainer))

    def _early(self, trainer: Trainer) -> str:
        """Says in words who ended it early, or returns "" if it had all its epochs."""
        if trainer.current_epoch >= self.epochs:
            return ""
        callbacks = cast(Any, trainer).callbacks
        who = [type(c).__name__ for c in callbacks if isinstance(c, EarlyStopping | Timer)]
        by = f" by {' or '.join(who)} of the configuration's Trainer" if who else ""
        said = f"ended{by} after {trainer.current_epoch} of {self.epochs} epochs"
        log.warning("%s %s", self.name, said)
        return said

    def _begin(self, job: Job, start: Path, last: Path) -> None:
        """Continues only from what began with the same weights and settings.

        What another recovery left is deleted.
        """
        note, begun = job.folder / BEGUN, {"start": sha256(start), "how": self._how}
        same = note.is_file() and json.loads(note.read_text(encoding="utf-8")) == json.loads(
            json.dumps(begun)
        )
        if last.is_file() and same:
            log.info("%s goes on from %s", job.name, last)
        elif last.is_file():
            log.warning("%s is of another recovery, and is deleted: %s begins anew", last, job.name)
            last.unlink()
        note.write_text(json.dumps(begun), encoding="utf-8")

    def _trainer(self, job: Job) -> tuple[Trainer, ModelCheckpoint]:
        """Makes the configuration's Trainer, but with this recovery's distillation and checkpoints."""
        trainer = job.trainer(max_epochs=self.epochs, max_steps=-1)
        callbacks: list[Any] = cast(Any, trainer).callbacks
        callbacks[:] = [
            c for c in callbacks if not isinstance(c, Checkpoint | Distillation | DetectionReport)
        ]
        callbacks[:0] = [*self.distillation, _Horizon()]
        if trainer.progress_bar_callback is None and not any(isinstance(c, EpochLines) for c in callbacks):
            callbacks.append(EpochLines())
        keeper = ModelCheckpoint(
            dirpath=job.folder,
            filename="best",
            monitor=self.monitor,
            mode="max" if self.monitor is None or rises(self.monitor) else "min",
            save_top_k=0 if self.monitor is None else 1,
            save_last=True,
            enable_version_counter=False,
        )
        callbacks.append(keeper)
        return trainer, keeper


def thaw(module: LightningModule) -> None:
    """Lets all of a pruned module train, also the layers and batch statistics that its configuration freezes.

    Those would only fit the network before channels were removed.

    Args:
        module: Module with `freeze_batchnorm` and `freeze_layers`, as `Detector` has them; another stays as
            it is.
    """
    said = (
        [f"freeze_batchnorm={module.freeze_batchnorm}"] if getattr(module, "freeze_batchnorm", False) else []
    )
    if layers := getattr(module, "freeze_layers", 0):
        said.append(f"freeze={layers}")
        for network in cast(Any, module).networks():
            for layer in cast(Any, module)._frozen(network):
                layer.requires_grad_(True)
    if said:
        vars(module).update(freeze_batchnorm=False, freeze_layers=0)
        module.train()
        log.warning(
            "%s of the configuration is not for a pruned student: all of it learns in the recovery.",
            " and ".join(said),
        )


class _Horizon(Callback):
    """Callback that warns of a scheduler for another number of epochs, after which a cosine rises again."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for entry in trainer.lr_scheduler_configs:
            steps = getattr(entry.scheduler, "T_max", None)
            if steps is not None and entry.interval == "epoch" and steps != trainer.max_epochs:
                rank_zero_warn(
                    f"the scheduler's T_max is {steps}, and the recovery has {trainer.max_epochs} epochs: give Recover a scheduler of its own."
                )
