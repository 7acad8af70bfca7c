"""`ReduceLROnPlateau` at a client, which waits for a value that the client logs."""

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
"""State of a plateau beside the learning rates."""


class Plateau:
    """Plateau scheduler that serves one client after the other; each client keeps its own rates and counts.

    Args:
        configured: An optimizer with a `ReduceLROnPlateau`.
    """

    def __init__(self, configured: Configured) -> None:
        self.configured, self._scheduler = configured, configured.scheduler
        self._start = self.taken()

    @classmethod
    def of(cls, configured: Configured) -> "Plateau | None":
        """Returns a plateau, or None for any other scheduler."""
        return None if configured.monitor is None else cls(configured)

    def follow(self, configured: Configured) -> None:
        """Takes over an optimizer and its scheduler that were made anew.

        Args:
            configured: What the module configures, which is the same as before.
        """
        self.configured, self._scheduler = configured, configured.scheduler

    def taken(self) -> Tensors:
        """Returns its state, as tensors that a client keeps."""
        counts = {n: torch.tensor(getattr(self._scheduler, n), dtype=torch.float64) for n in COUNTS}
        rates = [float(group["lr"]) for group in self.configured.optimizer.param_groups]
        return {**counts, "rates": torch.tensor(rates, dtype=torch.float64)}

    def begin(self, kept: Tensors) -> None:
        """Restores the state that a client kept; a new client gets the initial one."""
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
            metrics: Values that the training has logged.
            measured: Runs the client's validation and returns what it logs.
            who: The module and the client, for messages.

        Returns:
            The state that the client keeps.

        Raises:
            RefusalError: If the value is not logged; with `strict: False` in the module's configuration this
                is a warning.
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
        """Refuses, before training, to wait for a validation value at clients without validation data.

        Args:
            module: The clients' module.
            clients: The clients that train it.

        Raises:
            ValueError: If there is such a client, unless the module's configuration says `strict: False`.
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
