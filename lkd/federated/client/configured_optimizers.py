"""What a client's module configures: one optimizer and at most one scheduler, in any of Lightning's forms."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


class Configured(NamedTuple):
    """An optimizer and its scheduler.

    Attributes:
        optimizer: The optimizer.
        scheduler: Its scheduler, or None.
        by_step: Whether the scheduler counts steps, not rounds.
        frequency: After how many steps or rounds the scheduler makes one step.
        monitor: Name of the logged value that `ReduceLROnPlateau` waits for; None for other schedulers.
        strict: Whether that value has to be logged.
    """

    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | None = None
    by_step: bool = False
    frequency: int = 1
    monitor: str | None = None
    strict: bool = True


def configure(module: LightningModule, steps: Callable[[], float]) -> Configured:
    """Calls the module's `configure_optimizers`.

    Args:
        module: The worker's module.
        steps: Gives `trainer.estimated_stepping_batches` for the call; the federation's Trainer itself counts
            rounds.
    """
    trainer = module.trainer
    module.trainer = _Asked(trainer, steps)  # type: ignore[assignment]
    try:
        return parse(module.configure_optimizers(), type(module).__name__)
    finally:
        module.trainer = trainer


class _Asked:
    """The Trainer, but with another `estimated_stepping_batches`."""

    def __init__(self, trainer: Any, steps: Callable[[], float]) -> None:
        self._trainer, self._steps = trainer, steps

    @property
    def estimated_stepping_batches(self) -> float:
        return self._steps()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trainer, name)


def parse(configured: Any, who: str) -> Configured:
    """Reads what `configure_optimizers` returns.

    Args:
        configured: The returned value.
        who: Name of the module, for messages.

    Raises:
        ValueError: For no optimizer, several optimizers or schedulers, an optimizer that needs a closure, or
            a `ReduceLROnPlateau` without a monitor or with steps.

    Example:
        >>> sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> parse(([sgd], []), "Classifier")[1:]
        (None, False, 1, None, True)
    """
    if configured is None:
        raise ValueError(
            f"{who}.configure_optimizers returns None, but a client trains with an optimizer: return one."
        )
    optimizers: Any = configured
    schedulers: Any = []
    if isinstance(configured, dict):
        optimizers, schedulers = configured["optimizer"], configured.get("lr_scheduler", [])
    elif isinstance(configured, tuple) and len(configured) == 2 and isinstance(configured[0], list | tuple):
        optimizers, schedulers = configured
    elif isinstance(configured, list | tuple) and len(configured) == 1:
        return parse(configured[0], who)
    optimizers = list(optimizers) if isinstance(optimizers, list | tuple) else [optimizers]
    schedulers = list(schedulers) if isinstance(schedulers, list | tuple) else [schedulers]
    if len(optimizers) != 1 or not isinstance(optimizers[0], torch.optim.Optimizer) or len(schedulers) > 1:
        raise ValueError(
            f"{who}.configure_optimizers gives {len(optimizers)} optimizers and {len(schedulers)} schedulers: a client "
            "of a federation trains with one optimizer and at most one scheduler."
        )
    closure = inspect.signature(optimizers[0].step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise ValueError(
            f"{who}.configure_optimizers gives {type(optimizers[0]).__name__}, whose step calls the loss again and again, and a client of a "
            "federation computes it once a step: use another optimizer, such as torch.optim.SGD."
        )
    entry = schedulers[0] if schedulers else None
    config: dict[str, Any] = entry if isinstance(entry, dict) else {"scheduler": entry}
    scheduler, by_step = config["scheduler"], config.get("interval", "epoch") == "step"
    monitor = config.get("monitor") if isinstance(scheduler, ReduceLROnPlateau) else None
    if isinstance(scheduler, ReduceLROnPlateau) and (monitor is None or by_step):
        wrong = "interval='step'" if monitor is not None else "no monitor"
        raise ValueError(
            f"{who} uses ReduceLROnPlateau with {wrong}: a client steps it after its round on a value that it logs; return "
            '{"optimizer": ..., "lr_scheduler": {"scheduler": ..., "monitor": "val_loss"}}.'
        )
    frequency, strict = int(config.get("frequency", 1)), bool(config.get("strict", True))
    return Configured(optimizers[0], scheduler, by_step, frequency, monitor, strict)
