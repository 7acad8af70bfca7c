"""A long sum of float64 in chunks, with the errors of its additions."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 1 << 15
"""Number of values processed at once; values in a processor's cache are summed several times as fast."""


class Chunk(NamedTuple):
    """A part of the sum, and where a client's values for it are put.

    Attributes:
        high: The sum as float64 additions give it.
        low: The errors of these additions, added up.
        value: What is added next.
        places: The tensors of which it consists, or parts of them, as views of `value`.
        total: For intermediate results.
        virtual: For intermediate results.
    """

    high: Tensor
    low: Tensor
    value: Tensor
    places: list[Tensor]
    total: Tensor
    virtual: Tensor

    def add(self) -> None:
        """Adds `value` and overwrites it: Knuth's error-free `high + value`, whose error goes to `low`."""
        high, value, total, virtual = self.high, self.value, self.total, self.virtual
        torch.add(high, value, out=total)
        torch.sub(total, high, out=virtual)
        value.sub_(virtual)
        virtual.sub_(total).add_(high)  # high - (total - virtual)
        self.low.add_(value.add_(virtual))
        high.copy_(total)


def chunks(high: Tensor, low: Tensor, cuts: Sequence[Sequence[int]]) -> list[Chunk]:
    """Splits a sum and its errors, `(N)` each, into chunks, which share the memory for what they add.

    Args:
        high: The sum.
        low: Its errors.
        cuts: Sizes of the pieces of the tensors that are added, see `cuts`.
    """
    pieces = itertools.chain.from_iterable(cuts)
    value, total, virtual = (torch.zeros_like(high[:CHUNK]) for _ in range(3))
    found = []
    for start in range(0, len(high), CHUNK):
        size, held = len(high[start : start + CHUNK]), list[int]()
        while sum(held) < size:
            held.append(next(pieces))
        part = slice(start, start + size)
        work = value[:size], list(value[:size].split(held)), total[:size], virtual[:size]
        found.append(Chunk(high[part], low[part], *work))
    return found


def cuts(sizes: Sequence[int]) -> list[list[int]]:
    """Cuts tensors that lie one after the other where chunks end; returns the sizes of each one's pieces.

    An empty tensor has none.

    Example:
        >>> cuts([2, CHUNK, 0])
        [[2], [32766, 2], []]
    """
    found, start = [], 0
    for size in sizes:
        end = start + size
        inside = range((start // CHUNK + 1) * CHUNK, end, CHUNK)
        found.append([b - a for a, b in itertools.pairwise([start, *inside, end])] if size else [])
        start = end
    return found
