"""A sum in float64 whose terms are multiples of one power of two, so that no addition rounds."""

import torch
from torch import Tensor

STEP = 4
"""Binary orders of magnitude that share a grid."""
BITS = 45
"""A grid is 2**-BITS of the largest number that is rounded to it."""
TURNS = 32
"""Additions after which the upper half of a sum is put aside; TURNS * 2**BITS is within a float64's 2**51."""


class Level:
    """Part of a sum whose terms are all rounded to multiples of one power of two, so that no addition rounds.

    Each term is rounded by itself, by adding it to a large number: what is added is the large number and a multiple of
    the grid. The next term is added to the negative of that number, which takes it away again.

    Args:
        size: How many numbers.
        level: Terms are below `2 ** (STEP * level)`.
        device: Where they are.
    """

    def __init__(self, size: int, level: int, device: torch.device) -> None:
        grid = 2.0 ** (STEP * level - BITS)
        self._large = torch.tensor(1.5 * 2.0**52 * grid, dtype=torch.float64, device=device)
        self._offsets = self._large, -self._large
        self._larger = self._large * 2.0**26
        self.sum = torch.empty(size, dtype=torch.float64, device=device)
        self.carry: Tensor | None = None
        self.turns = 0  # additions since half of the sum was put aside
        self.odd, self.empty = False, True  # whether the large number is in the sum, and whether nothing is

    def add(self, value: Tensor, weight: float) -> None:
        """Adds `weight * value` and overwrites `value`."""
        if self.empty:  # what the memory holds is of another sum
            torch.add(self._large, value, alpha=weight, out=self.sum)
            self.empty = False
        else:
            torch.add(self._offsets[self.odd], value, alpha=weight, out=value)
            self.sum.add_(value)
        self.odd, self.turns = not self.odd, self.turns + 1
        if self.turns == TURNS:
            self.settle()

    def settle(self) -> tuple[Tensor, Tensor]:
        """Puts aside all but the last 26 bits of the sum; returns what is aside, and what is left."""
        self._even()
        upper = self.sum.add(self._larger).sub_(self._larger)
        self.sum.sub_(upper)
        self.carry, self.turns = upper if self.carry is None else self.carry.add_(upper), 0
        return self.carry, self.sum

    def _even(self) -> None:
        """Takes the large number away where it is in the sum."""
        if self.empty:
            self.sum.zero_()
            self.empty = False
        if self.odd:
            self.sum.sub_(self._large)
            self.odd = False

    def add_to(self, total: Tensor) -> None:
        """Adds the sum to a total, with one rounding of what it is exactly, and one of the total."""
        self._even()
        total.add_(self.sum if self.carry is None else self.carry + self.sum)

    def join(self, carry: Tensor, rest: Tensor) -> None:
        """Adds what `settle` gave in another process."""
        upper, lower = self.settle()
        upper.add_(carry)
        lower.add_(rest)

    def clear(self) -> None:
        """Sets the sum to zero, without a pass over its memory."""
        self.carry, self.turns = None, 0
        self.odd, self.empty = False, True
