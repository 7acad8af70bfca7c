"""Which edition of whose model every client holds, and how its losses went."""

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from lkd.federated.protocol.tensors import Groups, moved
from lkd.federated.topology.base import Edges

NOT_MEASURED = -1.0
"""Stands for a loss that is not there; losses are cross entropies, which are never negative."""


class Ledger:
    """What has to be known of all clients to send every edition of a model along an edge once, and to stop them.

    The edition of a client's model is the number of rounds in which it has trained it.

    Args:
        population: Number of all clients.
        saved: What `state` gave after the last round; empty at first.

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
        """All of it, as an algorithm's state."""
        tables = {"held": self._held, "edition": self._edition, "stopped": self._stopped}
        return {"ledger": {**tables, "own": self._own, "meta": self._meta}}

    def lacking(self, edges: Edges, here: Collection[int]) -> list[tuple[int, int]]:
        """Pairs (k, j) such that k learns from j and does not hold its present edition; both are here."""
        pairs = [(k, j) for k in here for j in edges[k] if j in here]
        return [(k, j) for k, j in pairs if self._held[k, j] < self._edition[j]]

    def knows(self, k: int, j: int) -> bool:
        """Whether k holds some edition of j's model."""
        return bool(self._held[k, j] >= 0)

    def receives(self, k: int, j: int) -> None:
        """Client k now holds the present edition of j's model."""
        self._held[k, j] = self._edition[j]

    def teachers(self, edges: Edges, k: int) -> list[int]:
        """Neighbours of k of which it holds an edition, be it an old one."""
        return [j for j in edges[k] if self.knows(k, j)]

    def trained(self, k: int) -> None:
        """Client k has made a new edition."""
        self._edition[k] += 1

    def active(self, k: int) -> bool:
        """Whether a client has not stopped."""
        return not self._stopped[k]

    def stop(self, k: int) -> None:
        """Client k trains no more."""
        self._stopped[k] = True

    def measured(self, own: Mapping[int, float], meta: Mapping[int, float]) -> None:
        """Notes the losses of a round."""
        clients = range(len(self._stopped))
        own_row, meta_row = ([losses.get(k, NOT_MEASURED) for k in clients] for losses in (own, meta))
        self._own = torch.cat([self._own, torch.tensor([own_row])])
        self._meta = torch.cat([self._meta, torch.tensor([meta_row])])

    def losses(self, k: int) -> tuple[list[float], list[float]]:
        """A client's own loss, in all rounds in which it was measured, and its meta loss then, NaN where there is none."""
        there = self._own[:, k] >= 0
        own, meta = self._own[there, k], self._meta[there, k]
        return own.tolist(), meta.masked_fill(meta < 0, math.nan).tolist()
