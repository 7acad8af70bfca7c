"""Running weighted sum of client replies, independent of their order and of the number of ranks."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lkd.federated.protocol.tensors import Tensors, as_real, as_type
from lkd.federated.server.chunks import CHUNK, chunks, cuts

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
    the same mean in one. Each sum is therefore kept as an unevaluated pair of float64, `high + low`: the plain
    sum, and the sum of the errors of its additions (Ogita, Rump, Oishi, "Accurate sum and dot product", SIAM J.
    Sci. Comput. 2005, Algorithm 4.4). Its error after n clients is about n^2 * 1e-32 of the largest partial sum
    at most, so the value rounded to the model's precision is the same for any order and any split over ranks.
    Complex numbers count as two real ones.

    Args:
        like: Names, shapes, types and devices (one for all) of what will be added.

    Attributes:
        count: Number of clients added.

    Example:
        >>> total = RunningSum({"w": torch.zeros(1)})
        >>> total.add({"w": torch.tensor([1.0])}, 1.0)
        >>> total.add({"w": torch.tensor([4.0])}, 2.0)
        >>> total.mean()
        {'w': tensor([3.])}
    """

    def __init__(self, like: Tensors) -> None:
        self._wanted = {name: tensor.shape for name, tensor in like.items()}
        self._types = [tensor.dtype for tensor in like.values()]
        self._shapes = [as_real(tensor).shape for tensor in like.values()]
        self._device = next((tensor.device for tensor in like.values()), torch.device("cpu"))
        self._sizes = [shape.numel() for shape in self._shapes]
        self._high, self._low = self._zeros(sum(self._sizes)), self._zeros(sum(self._sizes))
        self._cuts = cuts(self._sizes)
        self._chunks = chunks(self._high, self._low, self._cuts)
        self.reset()

    def _zeros(self, size: int) -> Tensor:
        return torch.zeros(size, dtype=torch.float64, device=self._device)

    def reset(self) -> "RunningSum":
        """Sets the sum to zero, reusing its memory, since new large blocks cost more than the sum itself."""
        self._high.zero_()
        self._low.zero_()
        self._weight, self.count = (0.0, 0.0), 0
        return self

    @property
    def weight(self) -> float:
        """Sum of the weights of all clients added."""
        return self._weight[0]

    def add(self, tensors: Tensors, weight: float) -> None:
        """Adds one client's tensors.

        Args:
            tensors: The tensors by name.
            weight: Their weight.

        Raises:
            ValueError: If names or shapes differ from the expected ones.
        """
        found = {name: tensor.shape for name, tensor in tensors.items()}
        wanted = self._wanted
        if found != wanted:
            wrong = sorted(n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n))
            raise ValueError(
                f"a reply's tensors {wrong[:3]} do not have the names and shapes that are summed."
            )
        pieces: list[Tensor] = []
        for name, cut in zip(wanted, self._cuts, strict=True):
            flat = as_real(tensors[name]).reshape(-1)
            pieces += flat.split(cut) if len(cut) > 1 else [flat] * len(cut)
        following = iter(pieces)
        for chunk in self._chunks:
            torch._foreach_copy_(chunk.places, list(itertools.islice(following, len(chunk.places))))
            chunk.value.mul_(weight)
            chunk.add()
        self._weigh(weight)
        self.count += 1

    def _weigh(self, weight: float) -> None:
        terms = [*self._weight, weight]
        total = math.fsum(terms)
        self._weight = total, math.fsum([*terms, -total])

    def gather(self, gather: Gather, device: torch.device | str) -> None:
        """Joins the sums of all ranks in one exchange; a rank without a client takes part, too.

        Args:
            gather: The exchange.
            device: Device on which tensors are exchanged.
        """
        told = torch.tensor([*self._weight, self.count], dtype=torch.float64, device=self._device)
        received = gather(torch.cat([self._high, self._low, told]).to(device))
        self.reset()
        for part in received:
            *pair, told = part.to(self._device).split([len(self._high), len(self._low), 3])
            for values in pair:
                for chunk, value in zip(self._chunks, values.split(CHUNK), strict=False):
                    chunk.value.copy_(value)
                    chunk.add()
            high, low, count = told.tolist()
            self._weigh(high)
            self._weigh(low)
            self.count += int(count)

    def sum(self) -> Tensors:
        """Returns the weighted sum, in the types of the tensors that were added."""
        return self._typed(lambda total: total)

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
        return self._typed(lambda total: total.div_(weight))

    def _typed(self, result: Callable[[Tensor], Tensor]) -> Tensors:
        pairs = zip(self._high.split(self._sizes), self._low.split(self._sizes), strict=True)
        totals = [
            result(high + low).view(shape) for (high, low), shape in zip(pairs, self._shapes, strict=True)
        ]
        return {n: as_type(t, dtype) for n, t, dtype in zip(self._wanted, totals, self._types, strict=True)}
