"""Running weighted sum of client replies, independent of their order and of the number of ranks."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lkd.federated.protocol.tensors import Tensors, as_real
from lkd.federated.server.grid_sum import GridSum
from lkd.federated.server.pair_sum import PairSum

TINY = 1e-40
"""Smallest weight: with it, the smallest number of float32 has its place on every grid."""
Gather = Callable[[Tensor], Sequence[Tensor]]
"""Gives every rank the tensors of all ranks, in rank order."""


class Averaged(dict[str, Tensors]):
    """Means by group; a missing group raises an error that says how to ask for it."""

    def __missing__(self, group: str) -> Tensors:
        """Raises KeyError for a group that was not averaged."""
        raise KeyError(
            f"{group!r} was not averaged, only {list(self)}: ask for it, mean(replies, ..., {group!r})"
        )


class RunningSum:
    """Sum of `weight * tensors` over clients, and of the weights, in O(model) memory.

    Adding floats in another order gives other last bits, so a mean over two processes would differ from
    the same mean in one. Here sums are exact, but for one rounding of each client's numbers that depends on that
    client alone: those of up to 32 bits are added by `GridSum`, those of 64 bits by `PairSum`. So the value rounded
    to the model's precision is the same for any order and any split over ranks. Complex numbers count as two
    real ones.

    Args:
        like: Names, shapes, types and devices (one for all) of what will be added.
        wide: Whether all are added by `PairSum`: where a constant of 1e38 may lie beside a mean of .3, which a
            grid of their common norm would lose.

    Attributes:
        count: Number of clients added.

    Example:
        >>> total = RunningSum({"w": torch.zeros(1)})
        >>> total.add({"w": torch.tensor([1.0])}, 1.0)
        >>> total.add({"w": torch.tensor([4.0])}, 2.0)
        >>> total.mean()
        {'w': tensor([3.])}
    """

    def __init__(self, like: Tensors, wide: bool = False) -> None:
        self._shapes = {name: tensor.shape for name, tensor in like.items()}
        self._types = {name: tensor.dtype for name, tensor in like.items()}
        self._complex = any(tensor.is_complex() for tensor in like.values())
        self._device = next((tensor.device for tensor in like.values()), torch.device("cpu"))
        real = {name: as_real(tensor) for name, tensor in like.items()}
        self._narrow = [n for n, tensor in real.items() if tensor.dtype.itemsize < 8 and not wide]
        self._wide = [name for name in real if name not in self._narrow]
        self._grid = GridSum([real[name].shape for name in self._narrow], self._device)
        self._pair = PairSum([real[name].shape for name in self._wide], self._device)
        self.reset()

    def reset(self) -> "RunningSum":
        """Sets the sum to zero, reusing its memory, since new large blocks cost more than the sum itself."""
        self._grid.reset()
        self._pair.reset()
        self._weight, self.count = (0.0, 0.0), 0
        return self

    @property
    def weight(self) -> float:
        """Sum of the weights of all clients added."""
        return self._weight[0]

    def add(self, tensors: Tensors, weight: float) -> None:
        """Adds one client's tensors.

        Args:
            tensors: The tensors by name; nobody changes them before `flush`, or before the result is taken.
            weight: Their weight.

        Raises:
            ValueError: If names or shapes differ from the expected ones, or the weight is so small that
                numbers would be lost.
        """
        if 0 < abs(weight) < TINY:
            raise ValueError(
                f"weight={weight:g} is below {TINY:g}, where numbers would be lost: multiply all weights, of which a mean takes the ratios."
            )
        found, wanted = {name: tensor.shape for name, tensor in tensors.items()}, self._shapes
        if found != wanted:
            wrong = sorted(n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n))
            raise ValueError(
                f"a reply's tensors {wrong[:3]} do not have the names and shapes that are summed."
            )
        real = {name: as_real(tensor) for name, tensor in tensors.items()} if self._complex else tensors
        if self._narrow:
            self._grid.add([real[name] for name in self._narrow], weight)
        if self._wide:
            self._pair.add([real[name] for name in self._wide], weight)
        self._weigh(weight)
        self.count += 1

    def flush(self) -> None:
        """Adds what waits to be added with others, so that its tensors may change."""
        self._grid.flush()

    def _weigh(self, weight: float) -> None:
        terms = [*self._weight, weight]
        total = math.fsum(terms)
        self._weight = total, math.fsum([*terms, -total])

    def gather(self, gather: Gather, device: torch.device | str) -> None:
        """Joins the sums of all ranks in two exchanges; a rank without a client takes part, too.

        Args:
            gather: The exchange.
            device: Device on which tensors are exchanged.
        """
        marks = [part.cpu() for part in gather(self._grid.marks().to(device))]
        for one in marks:
            self._grid.open(one)
        told = torch.tensor([*self._weight, self.count], dtype=torch.float64, device=self._device)
        grid, pair = self._grid.parts(), self._pair.parts()
        sizes = [len(grid), len(pair), 3]
        received = gather(torch.cat([grid, pair, told]).to(device))
        self.reset()
        for one in marks:
            self._grid.open(one)
        for part in received:
            grid, pair, told = part.to(self._device).split(sizes)
            self._grid.add_parts(grid)
            self._pair.add_parts(pair)
            high, low, count = told.tolist()
            self._weigh(high)
            self._weigh(low)
            self.count += int(count)

    def sum(self) -> Tensors:
        """Returns the weighted sum, in the types of the tensors that were added."""
        return self._result(None)

    def mean(self) -> Tensors:
        """Returns the sum divided by the sum of the weights.

        Raises:
            ValueError: If the sum of the weights is not above zero.
        """
        if not self.weight > 0:
            raise ValueError(
                f"the weights of {self.count} clients add up to {self.weight}, not to more than 0."
            )
        # a tensor, since CUDA multiplies by the inverse of a number
        weight = torch.tensor(self.weight, dtype=torch.float64, device=self._device)
        return self._result(weight)

    def _result(self, weight: Tensor | None) -> Tensors:
        found = {
            name: torch.empty(shape, dtype=self._types[name], device=self._device)
            for name, shape in self._shapes.items()
        }
        real = {name: as_real(tensor) for name, tensor in found.items()}
        self._grid.write([real[name] for name in self._narrow], weight)
        self._pair.write([real[name] for name in self._wide], weight)
        return found
