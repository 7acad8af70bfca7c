"""What a layer was given or gave, as it was at that moment, whatever a forward makes of it afterwards."""

from typing import Any

import torch
from torch import Tensor

from lkd.nested import on_tensors, shallow, tensors


class Kept:
    """A value whose collections are copied at once, and whose tensors are known again when they have been changed in place.

    Args:
        value: Tensors in any collection.
        copied: Those of which a copy is made too, with its graph, so that the value can be told after a change.

    Example:
        >>> hidden = torch.tensor([-1.0, 2.0])
        >>> kept = Kept([hidden], copied=[hidden])
        >>> _ = hidden.relu_()
        >>> kept.changed(kept.value), kept.before(kept.value)
        (True, [tensor([-1.,  2.])])
    """

    def __init__(self, value: Any, copied: Any = ()) -> None:
        self.value = shallow(value)
        self._versions = {id(tensor): version(tensor) for tensor in tensors(self.value)}
        self._copied = tensors(copied)
        self._copies = {id(tensor): tensor.clone() for tensor in self._copied}

    def changed(self, part: Any) -> bool:
        """Whether a tensor in a part of the value is no longer what it was.

        Changes that PyTorch does not count (through `.data` or NumPy) are seen where there is a copy to compare.
        """
        return any(
            version(tensor) != self._versions.get(id(tensor), version(tensor))
            or not _same(tensor, self._copies.get(id(tensor), tensor))
            for tensor in tensors(part)
        )

    @property
    def altered(self) -> bool:
        """Whether one of the tensors that are copied has been changed."""
        return self.changed(self._copied)

    def copied(self, part: Any) -> bool:
        """Whether there is a copy of all tensors in a part of the value."""
        return all(id(tensor) in self._copies for tensor in tensors(part))

    def before(self, part: Any) -> Any:
        """A part of the value as it was; for one that is copied."""
        return on_tensors(lambda tensor: self._copies[id(tensor)], part)


def version(tensor: Tensor) -> int:
    """How often a tensor has been changed in place; 0 for those of `torch.inference_mode`, which do not count it.

    Example:
        >>> version(torch.zeros(1).add_(1))
        1
    """
    return 0 if tensor.is_inference() else tensor._version


def _same(one: Tensor, other: Tensor) -> bool:
    if one is other:
        return True
    try:
        return torch.equal(one, other)
    except (RuntimeError, NotImplementedError):  # kinds of tensors that cannot be compared
        return True
