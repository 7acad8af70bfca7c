"""Running weighted sum of client replies, independent of their order and of the number of ranks."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lkd.federated.protocol.tensors import Tensors, as_real, as_type

Gather = Callable[[Tensor], Sequence[Tensor]]
"""Gives every rank the tensors of all ranks, in rank order."""
CHUNK = 1 << 15
"""Number of values processed at once; values in a processor's cache are summed several times as fast."""


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
    the same mean in one. Each sum is therefore kept as an unevaluated pair of float64, `high + low` (Dekker,
    "A floating-point technique for extending the available precision", Numer. Math. 1971; the error-free sum
    is Knuth's). Its error is about 1e-32 of the largest term, so the value rounded to the model's precision
    is the same for any order and any split over ranks. Complex numbers count as two real ones.

    Args:
        like: Names, shapes, types and devices (one for all) of what will be added.

    Example:
        >>> total = RunningSum({"w": torch.zeros(1)})
        >>> total.add({"w": torch.tensor([1.0])}, 1.0)
        >>> total.add({"w": torch.tensor([4.0])}, 2.0)
        >>> total.mean()
        {'w': tensor([3.])}
    """

    def __init__(self, like: Tensors) -> None:
        self._like = {name: (tensor.shape, tensor.dtype) for name, tensor in like.items()}
        self._device = next((tensor.device for tensor in like.values()), torch.device("cpu"))
        self._shapes = [as_real(tensor).shape for tensor in like.values()]
        size = sum(shape.numel() for shape in self._shapes)
        # the last two values are the sum of the weights and the number of clients
        self._high, self._low, self._values = (
            self._zeros(size + 2),
            self._zeros(size + 2),
            self._zeros(size + 2),
        )
        self._places = self._split(self._values)  # once, not for every client
        self._wanted = {name: shape for name, (shape, _) in self._like.items()}
        self._total, self._virtual = self._zeros(min(CHUNK, size + 2)), self._zeros(min(CHUNK, size + 2))

    def _zeros(self, size: int) -> Tensor:
        return torch.zeros(size, dtype=torch.float64, device=self._device)

    def reset(self) -> "RunningSum":
        """Sets the sum to zero, reusing its memory, since new large blocks cost more than the sum itself."""
        self._high.zero_()
        self._low.zero_()
        return self

    @property
    def weight(self) -> float:
        """Sum of the weights of all clients added."""
        return float(self._high[-2])

    @property
    def count(self) -> int:
        """Number of clients added."""
        return int(self._high[-1])

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
        for name, place in self._places.items():
            place.copy_(as_real(tensors[name]))
        self._values[-2:] = 1.0
        self._values[:-1] *= weight
        self._accumulate(self._values)

    def _split(self, flat: Tensor) -> Tensors:
        """Splits a flat vector of real numbers into the tensors, as views."""
        pieces = flat[:-2].split([shape.numel() for shape in self._shapes]) if self._like else ()
        return {n: p.view(shape) for n, p, shape in zip(self._like, pieces, self._shapes, strict=True)}

    def _accumulate(self, values: Tensor) -> None:
        """Adds values by Knuth's error-free `high + values`; its error goes to `low`.

        What of `low` fits into `high` then moves there. It overwrites `values`.
        """
        for value, high, low in zip(
            values.split(CHUNK), self._high.split(CHUNK), self._low.split(CHUNK), strict=True
        ):
            total, virtual = self._total[: len(value)], self._virtual[: len(value)]
            torch.add(high, value, out=total)
            torch.sub(total, high, out=virtual)
            value -= virtual
            virtual -= total
            virtual += high  # high - (total - virtual)
            value += virtual
            low += value
            torch.add(total, low, out=high)
            total -= high
            low += total

    def gather(self, gather: Gather, device: torch.device | str) -> None:
        """Joins the sums of all ranks in one exchange; a rank without a client takes part, too.

        Args:
            gather: The exchange.
            device: Device on which tensors are exchanged.
        """
        received = gather(torch.cat([self._high, self._low]).to(device))
        self._high.zero_()
        self._low.zero_()
        for part in received:
            high, low = part.to(self._device, copy=True).chunk(2)
            self._accumulate(high)
            self._accumulate(low)

    def sum(self) -> Tensors:
        """Returns the weighted sum, in the types of the tensors that were added."""
        return self._typed(self._high)

    def mean(self) -> Tensors:
        """Returns the sum divided by the sum of the weights.

        Raises:
            ValueError: If the sum of the weights is not above zero.
        """
        if not self.weight > 0:
            raise ValueError(
                f"the weights of {self.count} clients add up to {self.weight}, not to more than 0."
            )
        return self._typed(torch.div(self._high, self._high[-2], out=self._values))

    def _typed(self, flat: Tensor) -> Tensors:
        return {name: as_type(part, self._like[name][1]) for name, part in self._split(flat).items()}
