"""What stacked clients log, averaged for each of them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lkd.federated.client.logger import Log


class StackedLog:
    """Averages of K clients' logged values, as `Log` averages those of one.

    Args:
        clients: K.
        log: The log of the module, which knows how each name is averaged.
    """

    def __init__(self, clients: int, log: Log) -> None:
        self._clients, self._log = clients, log
        self._totals: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}

    def add(self, logs: Mapping[str, Tensor], rows: Tensor | None) -> None:
        """Adds what a step has logged.

        Args:
            logs: Values `(R,)` by name.
            rows: Clients that they are of, `(R,)`; None for all K.
        """
        for name, value in logs.items():
            how, values = self._log.reductions[name], value.detach().double()
            start = {"min": torch.inf, "max": -torch.inf}.get(how, 0.0)
            total = self._totals.setdefault(name, values.new_full((self._clients,), start))
            weight = self._weights.setdefault(name, values.new_zeros(self._clients))
            where = slice(None) if rows is None else rows
            if how in ("min", "max"):
                total[where] = getattr(torch, f"{how}imum")(total[where], values)
            else:
                size = self._log.sizes[name] if how == "mean" else 1
                total[where] += values * size
            weight[where] += self._log.sizes[name]

    def compute(self) -> list[dict[str, float]]:
        """Returns each client's values by name; those that it has not logged are left out."""
        found: list[dict[str, float]] = [{} for _ in range(self._clients)]
        for name, total in self._totals.items():
            weight = self._weights[name]
            values = total / weight if self._log.reductions[name] == "mean" else total
            for client, value, logged in zip(found, values.tolist(), weight.tolist(), strict=True):
                if logged:
                    client[name] = value
        return found
