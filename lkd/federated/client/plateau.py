"""`ReduceLROnPlateau` at a client, which waits for a value of the client's own."""

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.federated.client.configured_optimizers import Configured
from lkd.federated.client.logger import Log
from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.messages import RefusalError
from lkd.federated.protocol.tensors import Tensors
from lkd.packages import overrides

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
        self,
        round: int,
        log: Log,
        metrics: dict[str, float],
        measured: Callable[[], dict[str, float]],
        who: str,
    ) -> Tensors:
        """Steps it after a client's training.

        Args:
            round: Number of the round.
            log: The client's log.
            metrics: What it has just computed, of the training.
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
        value = log.value(monitor, metrics)
        if value is None:
            metrics = {**metrics, **measured()}
            value = log.value(monitor, metrics)
        if value is not None:
            scheduler: Any = self._scheduler
            scheduler.step(value)
            return self.taken()
        near = difflib.get_close_matches(monitor, metrics, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        sentence = (
            f"{who} waits with ReduceLROnPlateau for {monitor!r}, which it does not log, only {list(metrics)}{hint}: log it in "
            "training_step, or in validation_step and give clients validation data of their own (client_fractions), or use a "
            "scheduler that counts rounds."
        )
        if self.configured.strict:
            raise RefusalError(sentence)
        rank_zero_warn(sentence)
        return self.taken()

    def check(self, module: LightningModule, clients: Iterable[ClientData]) -> None:
        """Refuses, before anybody trains, to wait for a value of a validation where a client has no data for one.

        Args:
            module: The clients'.
            clients: Those that have it.

        Raises:
            ValueError: With the client, unless the module says `strict: False`.
        """
        monitor = str(self.configured.monitor)
        if re.split("[^a-z]", monitor)[0] not in ("val", "valid", "validation") or not overrides(
            module, "validation_step"
        ):
            return
        without = [client.name for client in clients if not client.has("val")]
        if without and self.configured.strict:
            raise ValueError(
                f"{type(module).__name__} waits with ReduceLROnPlateau for {monitor!r}, and client {without[0]} has no validation data "
                "of its own to log it on: give clients some (FederatedDataModule(client_fractions=[0.8, 0.2, 0.0])), or wait for a "
                "value that training_step logs."
            )
