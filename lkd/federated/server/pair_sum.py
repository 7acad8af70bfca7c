"""Sums of float64 numbers with the errors of their additions: the same, rounded, in any order."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from lkd.federated.server.chunks import chunks, cuts


class PairSum:
    """Sum of `weight * tensors` of float64, as an unevaluated pair of float64, `high + low`.

    That is the plain sum, and the sum of the errors of its additions (Ogita, Rump, Oishi, "Accurate sum and dot
    product", SIAM J. Sci. Comput. 2005, Algorithm 4.4). Its error after n clients is about n^2 * 1e-32 of the largest
    partial sum at most, so that the rounded value is the same in any order, unless nearly all cancels. It takes six
    operations for each number, where `GridSum`, which is for numbers of fewer bits, takes two.

    Args:
        shapes: Shapes of the tensors.
        device: Where they are.

    Example:
        >>> total = PairSum([torch.Size([1])], torch.device("cpu"))
        >>> for value in (1e16, 1.0, -1e16):
        ...     total.add([torch.tensor([value], dtype=torch.float64)], 1.0)
        >>> total.write([found := torch.zeros(1, dtype=torch.float64)])
        >>> found
        tensor([1.], dtype=torch.float64)
    """

    def __init__(self, shapes: Sequence[torch.Size], device: torch.device) -> None:
        sizes = [shape.numel() for shape in shapes]
        self._high = torch.zeros(sum(sizes), dtype=torch.float64, device=device)
        self._low = torch.zeros_like(self._high)
        self._cuts = cuts(sizes)
        self._chunks = chunks(self._high, self._low, self._cuts)

    def reset(self) -> None:
        """Sets the sum to zero."""
        self._high.zero_()
        self._low.zero_()

    def add(self, tensors: Sequence[Tensor], weight: float) -> None:
        """Adds the tensors of one client.

        Args:
            tensors: Tensors of the shapes.
            weight: Their weight.
        """
        pieces: list[Tensor] = []
        for tensor, cut in zip(tensors, self._cuts, strict=True):
            flat = tensor.reshape(-1)
            pieces += flat.split(cut) if len(cut) > 1 else [flat] * len(cut)
        following = iter(pieces)
        for chunk in self._chunks:
            torch._foreach_copy_(chunk.places, list(itertools.islice(following, len(chunk.places))))
            chunk.value.mul_(weight)
            chunk.add()

    def parts(self) -> Tensor:
        """Returns all that another process needs to add this sum to its own, `(2 N)`."""
        return torch.cat([self._high, self._low])

    def add_parts(self, parts: Tensor) -> None:
        """Adds the sum of another process, as `parts` gave it."""
        for values in parts.split(len(self._high)) if len(parts) else ():
            for chunk, value in zip(self._chunks, values.split(len(self._chunks[0].value)), strict=True):
                chunk.value.copy_(value)
                chunk.add()

    def write(self, tensors: Sequence[Tensor], weight: Tensor | None = None) -> None:
        """Writes the sum, divided by a weight if there is one, into tensors of the shapes."""
        total = self._high + self._low
        if weight is not None:
            total.div_(weight)
        for tensor, part in zip(tensors, total.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))
