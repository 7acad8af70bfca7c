"""The running weighted sum of client replies, whose result does not depend on their order or on the number of ranks."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lkd.federated.tensors import Tensors

Gather = Callable[[Tensor], Sequence[Tensor]]
"""Gives every rank the tensors of all ranks, in rank order."""


class RunningSum:
    """Sum of `weight * tensors` over clients, and of the weights, in memory O(model).

    Adding floats in another order gives other last bits, so that a mean over two processes would differ from
    the same mean in one. Each sum is therefore kept as an unevaluated pair of float64, `high + low` (Dekker,
    "A floating-point technique for extending the available precision", Numer. Math. 1971; the error-free sum
    is Knuth's): its error is about 1e-32 of the largest term, so the value rounded to the model's precision
    is the same for any order and any split over ranks.

    Args:
        like: Names, shapes, types and devices of what will be added.

    Example:
        >>> total = RunningSum({"w": torch.zeros(1)})
        >>> total.add({"w": torch.tensor([1.0])}, 1.0)
        >>> total.add({"w": torch.tensor([4.0])}, 2.0)
        >>> total.mean()
        {'w': tensor([3.])}
    """

    def __init__(self, like: Tensors) -> None:
        self._like = {name: (tensor.shape, tensor.dtype, tensor.device) for name, tensor in like.items()}
        device = next(iter(like.values())).device if like else torch.device("cpu")
        # the last two entries are the sum of the weights and the number of clients
        self._ones = [torch.ones((), dtype=torch.float64, device=device) for _ in range(2)]
        zeros = [torch.zeros(t.shape, dtype=torch.float64, device=t.device) for t in like.values()]
        self._high = zeros + [torch.zeros_like(one) for one in self._ones]
        self._low = [torch.zeros_like(tensor) for tensor in self._high]

    @property
    def weight(self) -> float:
        """Sum of the weights."""
        return float(self._high[-2])

    @property
    def count(self) -> int:
        """Number of clients."""
        return int(self._high[-1])

    def add(self, tensors: Tensors, weight: float) -> None:
        """Adds one client's tensors.

        Raises:
            ValueError: If names or shapes are not the expected ones.
        """
        found = {name: tensor.shape for name, tensor in tensors.items()}
        wanted = {name: shape for name, (shape, _, _) in self._like.items()}
        if found != wanted:
            wrong = sorted(n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n))
            raise ValueError(
                f"a reply's tensors {wrong[:3]} do not have the names and shapes that are summed."
            )
        values = [tensors[name].detach().double() for name in self._like]
        weighted = torch._foreach_mul([*values, self._ones[0]], weight)
        self._accumulate([*weighted, self._ones[1]])

    def _accumulate(self, values: list[Tensor]) -> None:
        """Knuth's error-free `high + value`, whose error goes to `low`; then what of `low` fits goes up."""
        total = list(torch._foreach_add(self._high, values))
        virtual = list(torch._foreach_sub(total, self._high))
        error = torch._foreach_sub(values, virtual)
        torch._foreach_sub_(virtual, total)
        torch._foreach_add_(virtual, self._high)  # high - (total - virtual)
        torch._foreach_add_(error, virtual)
        torch._foreach_add_(self._low, error)
        self._high = list(torch._foreach_add(total, self._low))
        torch._foreach_sub_(total, self._high)
        torch._foreach_add_(self._low, total)

    def gather(self, gather: Gather, device: torch.device | str) -> None:
        """Joins the sums of all ranks in one exchange; a rank without a client takes part too.

        Args:
            gather: The exchange.
            device: Where its tensors have to be.
        """
        flat = torch.cat([tensor.flatten().to(device) for tensor in (*self._high, *self._low)])
        shapes, places = [t.shape for t in self._high], [t.device for t in self._high]
        for tensor in (*self._high, *self._low):
            tensor.zero_()
        for received in gather(flat):
            pieces = received.split([shape.numel() for shape in shapes] * 2)
            parts = [
                piece.view(shape).to(place)
                for piece, shape, place in zip(pieces, shapes * 2, places * 2, strict=True)
            ]
            self._accumulate(parts[: len(shapes)])
            self._accumulate(parts[len(shapes) :])

    def sum(self) -> Tensors:
        """The weighted sum, in the types of the tensors that came in."""
        return {
            name: high.to(dtype)
            for (name, (_, dtype, _)), high in zip(self._like.items(), self._high, strict=False)
        }

    def mean(self) -> Tensors:
        """The sum over the sum of the weights.

        Raises:
            ValueError: If the weights do not add up to more than zero.
        """
        if not self.weight > 0:
            raise ValueError(
                f"the weights of {self.count} clients add up to {self.weight}, not to more than 0."
            )
        return {
            name: (high / self._high[-2]).to(dtype)
            for (name, (_, dtype, _)), high in zip(self._like.items(), self._high, strict=False)
        }
