"""`ReduceLROnPlateau` at a client, which waits for a value of the client's own."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.federated.configured import Configured
from lkd.federated.fault import RefusalError
from lkd.federated.tensors import Tensors

COUNTS = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")
"""What changes in a plateau, beside the rates."""


class Plateau:
    """The plateau of one client after the other; each keeps its own rates and counts between its rounds.

    Args:
        configured: With a plateau.
    """

    def __init__(self, configured: Configured) -> None:
        self.configured, self._scheduler = configured, configured.scheduler
        self._start = self.taken()

    @classmethod
    def of(cls, configured: Configured) -> "Plateau | None":
        """None where the scheduler is none."""
        return None if configured.monitor is None else cls(configured)

    def taken(self) -> Tensors:
        """Its state, as tensors that a client keeps."""
        counts = {n: torch.tensor(getattr(self._scheduler, n), dtype=torch.float64) for n in COUNTS}
        rates = [float(group["lr"]) for group in self.configured.optimizer.param_groups]
        return {**counts, "rates": torch.tensor(rates, dtype=torch.float64)}

    def begin(self, kept: Tensors) -> None:
        """Takes up what a client kept; a new one begins."""
        state: dict[str, Any] = {name: tensor.tolist() for name, tensor in (kept or self._start).items()}
        for name in COUNTS:
            setattr(self._scheduler, name, state[name] if name == "best" else int(state[name]))
        for group, rate in zip(self.configured.optimizer.param_groups, state["rates"], strict=True):
            group["lr"] = rate

    def end(
        self, round: int, metrics: dict[str, float], measured: Callable[[], dict[str, float]], who: str
    ) -> Tensors:
        """Steps it after a client's training.

        Args:
            round: Number of the round.
            metrics: What the client logged in training.
            measured: Gives what its validation logs.
            who: The module and the client, for messages.

        Returns:
            What the client keeps.

        Raises:
            RefusalError: If nobody logs the value; a warning, if the module says `strict: False`.
        """
        if (round + 1) % self.configured.frequency:
            return self.taken()
        monitor = str(self.configured.monitor)
        if monitor not in metrics:
            metrics = {**metrics, **measured()}
        if monitor in metrics:
            scheduler: Any = self._scheduler
            scheduler.step(metrics[monitor])
            return self.taken()
        sentence = (
            f"{who} waits with ReduceLROnPlateau for {monitor!r}, which it does not log, only {list(metrics)}: log it in "
            "training_step, or in validation_step and give clients validation data of their own (client_fractions), or use a "
            "scheduler that counts rounds."
        )
        if self.configured.strict:
            raise RefusalError(sentence)
        rank_zero_warn(sentence)
        return self.taken()
