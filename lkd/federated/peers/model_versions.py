"""Editions of the models that every client holds, and the clients' losses."""

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from lkd.federated.protocol.tensors import Groups, moved
from lkd.federated.topology.base import Edges

NOT_MEASURED = -1.0
"""Stands for a missing loss; losses are cross entropies, which are never negative."""


class Ledger:
    """State of all clients: it tells which editions of models an edge still needs, and who has stopped.

    The edition of a client's model is the number of rounds in which it has been trained.

    Args:
        population: Number of all clients.
        saved: The `state` after the last round; empty at first.

    Example:
        >>> ledger = Ledger(3, {})
        >>> ledger.lacking([[1], [0], [0]], here=[0, 1])
        [(0, 1), (1, 0)]
        >>> ledger.receives(0, 1)
        >>> ledger.lacking([[1], [0], [0]], here=[0, 1]), ledger.teachers([[1], [0], [0]], 0)
        ([(1, 0)], [1])
    """

    def __init__(self, population: int, saved: Groups) -> None:
        tables = moved(saved.get("ledger", {}), "cpu")
        none = torch.zeros(0, population)
        self._held: Tensor = tables.get("held", torch.full((population, population), -1))
        self._edition: Tensor = tables.get("edition", torch.zeros(population, dtype=torch.long))
        self._stopped: Tensor = tables.get("stopped", torch.zeros(population, dtype=torch.bool))
        self._own: Tensor = tables.get("own", none)
        self._meta: Tensor = tables.get("meta", none)

    @property
    def state(self) -> Groups:
        """The whole ledger, as an algorithm's state."""
        tables = {"held": self._held, "edition": self._edition, "stopped": self._stopped}
        return {"ledger": {**tables, "own": self._own, "meta": self._meta}}

    def lacking(self, edges: Edges, here: Collection[int]) -> list[tuple[int, int]]:
        """Lists the pairs (k, j) of present clients where k learns from j and lacks its present edition."""
        pairs = [(k, j) for k in here for j in edges[k] if j in here]
        return [(k, j) for k, j in pairs if self._held[k, j] < self._edition[j]]

    def knows(self, k: int, j: int) -> bool:
        """Tells whether client k holds some edition of j's model."""
        return bool(self._held[k, j] >= 0)

    def receives(self, k: int, j: int) -> None:
        """Records that client k now holds the present edition of j's model."""
        self._held[k, j] = self._edition[j]

    def teachers(self, edges: Edges, k: int) -> list[int]:
        """Lists the neighbors of k of which it holds an edition, even an old one."""
        return [j for j in edges[k] if self.knows(k, j)]

    def trained(self, k: int) -> None:
        """Records that client k has made a new edition."""
        self._edition[k] += 1

    def active(self, k: int) -> bool:
        """Tells whether a client has not stopped."""
        return not self._stopped[k]

    def stop(self, k: int) -> None:
        """Records that client k trains no more."""
        self._stopped[k] = True

    def measured(self, own: Mapping[int, float], meta: Mapping[int, float]) -> None:
        """Records the losses of a round."""
        clients = range(len(self._stopped))
        own_row, meta_row = ([losses.get(k, NOT_MEASURED) for k in clients] for losses in (own, meta))
        self._own = torch.cat([self._own, torch.tensor([own_row])])
        self._meta = torch.cat([self._meta, torch.tensor([meta_row])])

    def losses(self, k: int) -> tuple[list[float], list[float]]:
        """Returns a client's own losses in all rounds that have one, and its meta losses, NaN if missing."""
        there = self._own[:, k] >= 0
        own, meta = self._own[there, k], self._meta[there, k]
        return own.tolist(), meta.masked_fill(meta < 0, math.nan).tolist()
