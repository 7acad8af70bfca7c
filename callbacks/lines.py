"""`EpochLines`: a plain line for each epoch, for logs and for terminals without a bar."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lkd.federated import Federation


class EpochLines(Callback):
    """Callback that prints a line after each epoch: `epoch 3/10: train/loss 1.234, val/map50 0.612 (42 s)`.

    A federation's lines begin with `round 3/10`. They name what the bar would show: metrics that are logged
    with `prog_bar=True` or, where there are none, all that is logged. Seconds are counted from the start of
    training.

    Args:
        metrics: Most metrics in a line. Default 6.
        name: Name of the run, before each line, for runs that print beside each other. Default: none.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[EpochLines()], enable_progress_bar=False, logger=False, enable_checkpointing=False)
    """

    def __init__(self, metrics: int = 6, name: str = "") -> None:
        self.metrics, self.name = metrics, name
        self._began = 0.0
        self._validated = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock of the run."""
        self._began = time.monotonic()

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the values before training, if they were measured on all validation data."""
        if trainer.num_sanity_val_steps == float("inf"):
            logged = trainer.progress_bar_metrics or trainer.callback_metrics
            self._say(trainer, "before training", {name: float(value) for name, value in logged.items()})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers that the validation's metrics are of this epoch."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the line of the epoch."""
        logged = trainer.progress_bar_metrics or trainer.callback_metrics
        shown = {k: float(v) for k, v in logged.items() if self._validated or not k.startswith("val")}
        self._validated = False
        seconds = f" ({time.monotonic() - self._began:.0f} s)"
        self._say(trainer, place(trainer, pl_module), shown, seconds)

    def _say(self, trainer: Trainer, where: str, metrics: dict[str, float], end: str = "") -> None:
        if trainer.is_global_zero:
            said = ", ".join(f"{name} {value:.3f}" for name, value in list(metrics.items())[: self.metrics])
            name = f"{self.name}: " if self.name else ""
            print(f"{name}{where}{': ' if said else ''}{said}{end}", flush=True)


def place(trainer: Trainer, module: LightningModule) -> str:
    """Returns how far training is, in epochs or in rounds."""
    done, most = trainer.current_epoch + 1, trainer.max_epochs
    of = f"/{most}" if most is not None and most > 0 else ""
    if not isinstance(module, Federation):
        return f"epoch {done}{of}"
    rounds: Any = module.global_step
    return f"round {rounds}{of if rounds == done else ''}"
