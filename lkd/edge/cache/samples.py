"""The samples in a model's arguments: cut out of a batch, and recognized by their content."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
import xxhash
from torch import Tensor

from lkd.nested import apply, leaves, on_tensors, tensors
from lkd.taps import Call

_PLAIN = (bool, int, float, complex, str, bytes, torch.device, torch.dtype, type(None))


class BatchedCall:
    """Arguments of a call; every tensor as long as the batch is taken to have one row for each sample.

    Args:
        call: All arguments of the model.
        known: Which tensors have one row for each sample, by `kind` of call. For other kinds, those as long
            as the first tensor with more than one row.

    Attributes:
        kind: What the model is called with, whatever the shapes.
        uneven: Whether the number of samples cannot be told.
        count: Number of samples; 0 where it is not known.

    Raises:
        ValueError: If an argument has no content that could be told from another's.

    Example:
        >>> samples = BatchedCall(Call((torch.eye(3),), {"scale": 2.0}))
        >>> samples.count, samples.pick([2]).args[0], len(set(samples.digests(b"")))
        (3, tensor([[0., 0., 1.]]), 3)
    """

    def __init__(self, call: Call, known: Mapping[str, Sequence[bool]] = MappingProxyType({})) -> None:
        self.call, self.tensors = call, tensors(call)
        for leaf in leaves(call):
            if not isinstance(leaf, (Tensor, *_PLAIN)) or (
                isinstance(leaf, Tensor) and (leaf.layout != torch.strided or leaf.is_nested)
            ):
                raise ValueError(
                    f"cache: the teacher is given a {type(leaf).__name__}, whose content lkd cannot tell from another's; use a Teacher."
                )
        self.kind = repr(apply(_named, call))
        cut = known.get(self.kind)
        if cut is None:
            lengths = [len(t) for t in self.tensors if t.ndim]
            length = next((n for n in lengths if n > 1), max(lengths, default=0))
            cut = [t.ndim > 0 and len(t) == length for t in self.tensors]
        self.cut = list(cut)
        counts = {len(t) for t, by_sample in zip(self.tensors, self.cut, strict=True) if by_sample}
        self.uneven = len(counts) != 1
        self.count = 0 if self.uneven else counts.pop()

    @property
    def shape(self) -> str:
        """Call with shapes of samples in place of tensors: equal ones are answered in the same form."""
        flags = iter(self.cut)

        def described(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            return (
                f"{leaf.dtype}{list(leaf.shape[1:])} a sample"
                if next(flags)
                else f"{leaf.dtype}{list(leaf.shape)}"
            )

        return repr(apply(described, self.call))

    def pick(self, places: Sequence[int]) -> Call:
        """Returns the call with these samples alone."""
        return self._with([t[list(places)] for t in self.tensors])

    def beside_another(self) -> Call:
        """Returns the call with every sample twice, once reversed along its last dimension."""
        return self._with([torch.cat([t, t.flip(-1) if t.ndim > 1 else t]) for t in self.tensors])

    def digests(self, prefix: bytes) -> list[bytes]:
        """Returns a hash of 16 bytes for each sample: of `prefix`, its rows and all else."""
        start = xxhash.xxh3_128(prefix)
        start.update(self.shape.encode())
        rows = []
        for tensor, by_sample in zip(self.tensors, self.cut, strict=True):
            if by_sample:
                rows.append(_bytes(tensor).reshape(self.count, -1).numpy())
            else:
                start.update(_bytes(tensor).numpy().data)
        found = []
        for place in range(self.count):
            digest = start.copy()
            for each in rows:
                digest.update(each[place].data)
            found.append(digest.digest())
        return found

    def _with(self, changed: Sequence[Tensor]) -> Call:
        pairs = iter(zip(self.cut, self.tensors, changed, strict=True))

        def put(_: Tensor) -> Tensor:
            by_sample, same, other = next(pairs)
            return other if by_sample else same

        call: Call = on_tensors(put, self.call)
        return call


def _named(leaf: Any) -> Any:
    return (leaf.dtype, leaf.ndim) if isinstance(leaf, Tensor) else type(leaf).__name__


def _bytes(tensor: Tensor) -> Tensor:
    """Returns a tensor's values as bytes on the CPU."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
