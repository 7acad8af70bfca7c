"""Inputs and outputs of a layer as they were at that moment, whatever a forward does to them later."""

from typing import Any

import torch
from torch import Tensor

from lkd.nested import on_tensors, shallow, tensors


class Kept:
    """A value whose collections are copied at once, and whose tensors are checked for changes in place.

    Args:
        value: Tensors in any collection.
        copied: Tensors that are copied too, with their graphs, so that their former values are known after a
            change.

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
        """Returns whether a tensor in a part of the value has changed.

        Changes that PyTorch does not count (through `.data` or NumPy) are found if there is a copy to compare
        with.
        """
        for tensor in tensors(part):
            now = version(tensor)
            if self._versions.get(id(tensor), now) != now:
                return True
            if self._copies and not _same(tensor, self._copies.get(id(tensor), tensor)):
                return True
        return False

    @property
    def altered(self) -> bool:
        """Whether one of the copied tensors has changed."""
        return self.changed(self._copied)

    def copied(self, part: Any) -> bool:
        """Returns whether there is a copy of all tensors in a part of the value."""
        return all(id(tensor) in self._copies for tensor in tensors(part))

    def before(self, part: Any) -> Any:
        """Returns a part of the value as it was; only for a part that is copied."""
        return on_tensors(lambda tensor: self._copies[id(tensor)], part)


NOTHING = Kept(None)
"""What is kept where nobody will ask."""


def version(tensor: Tensor) -> int:
    """Returns how often a tensor has been changed in place.

    0 for those of `torch.inference_mode`, which do not count it.

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
