"""Cache of soft labels of public samples, kept for some rounds, with a record of what every client has."""

import hashlib

import numpy as np
import torch
from torch import Tensor

from lkd.federated.protocol.client_data import PublicSamples
from lkd.federated.protocol.tensors import Groups
from lkd.nested import tensors

LOOKED_AT = 32
"""Number of public samples, spread over all, by which other public data are recognized."""


class LabelCache:
    """View of an algorithm's `state` as a cache of soft labels, so that every checkpoint holds the cache.

    Ages are counted in rounds: 0 is a label of this round, -1 stands for a sample without a label.

    Args:
        state: The algorithm's state; its groups `cache` and `held` are used.
        size: Number of public samples.
        duration: Rounds for which a label is valid after the one in which it was made.

    Example:
        >>> cache = LabelCache({}, size=3, duration=1)
        >>> cache.put(torch.tensor([0, 2]), torch.ones(2, 4))
        >>> cache.next_round()
        >>> cache.good(torch.arange(3))
        tensor([ True, False,  True])
        >>> cache.next_round()
        >>> cache.good(torch.arange(3)).any()
        tensor(False)
    """

    def __init__(self, state: Groups, size: int, duration: int) -> None:
        self._kept = state.setdefault("cache", {})
        self._held = state.setdefault("held", {})
        for group in (self._kept, self._held):  # a checkpoint's are on the device of the module
            group.update({name: tensor.cpu() for name, tensor in group.items()})
        self._size, self._duration = size, duration

    def belong(self, public: PublicSamples) -> None:
        """Refuses public data other than those of the cached labels, as a resumed run may bring.

        Raises:
            ValueError: If their number, or one of up to `LOOKED_AT` samples of them, differs.
        """
        digest = hashlib.sha256(str(len(public)).encode())
        rows = np.linspace(0, len(public) - 1, min(len(public), LOOKED_AT)).astype(np.int64)
        for batch in public.batches(rows, 1):
            for tensor in tensors(batch):
                digest.update(
                    tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
                )
        mark = torch.tensor(int.from_bytes(digest.digest()[:7], "big"))
        if not torch.equal(self._kept.setdefault("public", mark), mark):
            raise ValueError(
                f"the soft labels in the checkpoint are of other public data than these {len(public)} samples (their number, or "
                "one of those that were looked at, differs): resume with the public data it was saved with, or begin anew with its weights alone."
            )

    @property
    def ages(self) -> Tensor:
        """Age of each sample's label in rounds, `(P,)`."""
        if "ages" not in self._kept:
            self._kept["ages"] = torch.full((self._size,), -1)
        return self._kept["ages"]

    def next_round(self) -> None:
        """Makes all labels a round older."""
        self._kept["ages"] = torch.where(self.ages < 0, self.ages, self.ages + 1)

    def good(self, rows: Tensor) -> Tensor:
        """Tells which of these samples have a label that has not expired, `(N,)` bool."""
        ages = self.ages[rows]
        return (ages >= 0) & (ages <= self._duration)

    def put(self, rows: Tensor, labels: Tensor) -> None:
        """Stores new labels `(M, C)` of samples; from then on, no client has the present label of these."""
        if "labels" not in self._kept:
            self._kept["labels"] = labels.new_zeros(self._size, *labels.shape[1:])
        self._kept["labels"][rows] = labels
        self.ages[rows] = 0
        for held in self._held.values():
            held[rows] = False

    def labels(self, rows: Tensor) -> Tensor:
        """Returns the labels of these samples, `(N, C)`."""
        return self._kept["labels"][rows]

    def lacks(self, client: int, rows: Tensor) -> Tensor:
        """Tells of which of these samples a client lacks the present label, `(N,)` bool."""
        held = self._held.get(str(client))
        return torch.ones(len(rows), dtype=torch.bool) if held is None else ~held[rows]

    def hand(self, client: int, rows: Tensor) -> None:
        """Records that a client has the present labels of these samples."""
        held = self._held.setdefault(str(client), torch.zeros(self._size, dtype=torch.bool))
        held[rows] = True
