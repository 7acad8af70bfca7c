"""A client's own optimizer and scheduler, made by its module and begun anew for every client."""

import warnings
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


class LocalOptimizer:
    """What the module's `configure_optimizers` gives, in the life of many clients.

    Every client starts with an empty optimizer state (as in all algorithms here). A scheduler with Lightning's
    default interval, `"epoch"`, counts rounds; with `interval: "step"` it counts a client's local steps and
    begins anew for every client.

    Args:
        module: The module on which clients train.

    Raises:
        ValueError: For several optimizers or schedulers, or one that waits for a metric.
    """

    def __init__(self, module: LightningModule) -> None:
        self.module = module
        self.rounds = 0
        self._make()
        self._groups = self._snapshot()

    def _make(self) -> None:
        self.optimizer, self.scheduler, self.by_step, self.frequency = parse(
            self.module.configure_optimizers(), type(self.module).__name__
        )

    def _snapshot(self) -> list[dict[str, Any]]:
        return [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]

    def begin_client(self) -> None:
        """An empty state and the hyper-parameters of this round."""
        if self.by_step:  # a scheduler cannot be rewound
            self._make()
            return
        self.optimizer.state.clear()
        for group, values in zip(self.optimizer.param_groups, self._groups, strict=True):
            group.update(values)

    def end_round(self) -> None:
        """Steps a scheduler that counts rounds."""
        self.rounds += 1
        if self.scheduler is None or self.by_step or self.rounds % self.frequency:
            return
        for group, values in zip(self.optimizer.param_groups, self._groups, strict=True):
            group.update(values)
        with warnings.catch_warnings():  # torch warns where this process had no client in the round
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            self.scheduler.step()
        self._groups = self._snapshot()

    def state_dict(self) -> dict[str, Any]:
        """The scheduler's place and the hyper-parameters that it has come to."""
        schedule = self.scheduler.state_dict() if self.scheduler is not None and not self.by_step else None
        return {"rounds": self.rounds, "groups": self._groups, "scheduler": schedule}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where a run was interrupted."""
        self.rounds = state["rounds"]
        if state["scheduler"] is not None and self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
            self._groups = state["groups"]


def parse(configured: Any, who: str) -> tuple[torch.optim.Optimizer, LRScheduler | None, bool, int]:
    """The optimizer, scheduler, whether it counts steps, and its frequency, in any of Lightning's forms.

    Example:
        >>> sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> parse(([sgd], []), "Classifier")[1:]
        (None, False, 1)
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
    entry = schedulers[0] if schedulers else None
    config: dict[str, Any] = entry if isinstance(entry, dict) else {"scheduler": entry}
    scheduler = config["scheduler"]
    if isinstance(scheduler, ReduceLROnPlateau):
        raise ValueError(
            f"{who} uses ReduceLROnPlateau, but a client has no metric to wait for; use a scheduler that counts "
            "rounds, or give the federation a server_scheduler."
        )
    return (
        optimizers[0],
        scheduler,
        config.get("interval", "epoch") == "step",
        int(config.get("frequency", 1)),
    )
