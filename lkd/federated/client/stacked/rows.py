"""Batches of many clients that are rows of the same tensors, gathered for all of them by one index."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.seeds import derive_each


class Rows(list[np.ndarray]):
    """The rows of a batch of each client.

    Args:
        rows: Rows of each client's batch.
        source: Gives the batches of rows `(R, B)`.
    """

    def __init__(self, rows: Sequence[np.ndarray], source: Any) -> None:
        super().__init__(rows)
        self.source = source

    def gathered(self, clients: Sequence[int]) -> Any:
        """Returns the batches of these clients, which are of one size, as one, each tensor `(R, B, ...)`."""
        return self.source.gathered(torch.from_numpy(np.stack([self[client] for client in clients])))


class RowPasses:
    """Training batches of K clients without end, the same as those of `passes`, as numbers of rows.

    Args:
        clients: The clients' data.
        seeds: Seed of the order of each client's samples.
    """

    def __init__(self, clients: Sequence[ClientData], seeds: Sequence[int]) -> None:
        self._clients, self._seeds = clients, np.asarray(seeds, dtype=np.int64)
        self._epochs, self._at = np.zeros(len(clients), dtype=np.int64), [0] * len(clients)
        self._rows: list[list[np.ndarray]] = [[] for _ in clients]
        self.source: Any = None
        self.usable = self._begin(range(len(clients)))
        """Whether all batches are rows of the same tensors; else each client gives its own."""

    def _begin(self, clients: Sequence[int]) -> bool:
        """Begins another epoch of these clients; False for one whose batches are more than rows."""
        some = np.asarray(clients)
        seeds = derive_each(self._seeds[some], self._epochs[some])
        self._epochs[some] += 1
        for k, seed in zip(clients, seeds, strict=True):
            told = getattr(self._clients[k], "train_rows", None)
            found = None if told is None else told(seed)
            if found is None or (self.source is not None and found[0] is not self.source):
                return False
            self.source, self._rows[k] = found
            self._at[k] = 0
            if not self._rows[k]:
                raise ValueError(f"client {self._clients[k].name} has no training batch.")
        return True

    def step(self) -> tuple[list[bool], Rows]:
        """Returns the next batch of each client, and whether it is the last of its epoch."""
        if done := [k for k, at in enumerate(self._at) if at == len(self._rows[k])]:
            self._begin(done)
        found = Rows([rows[at] for rows, at in zip(self._rows, self._at, strict=True)], self.source)
        self._at = [at + 1 for at in self._at]
        return [at == len(rows) for rows, at in zip(self._rows, self._at, strict=True)], found
