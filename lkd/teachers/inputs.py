"""Inputs of a teacher: a tensor, or a dict of tensors, as several modalities are."""

from typing import Any

from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor


def first_tensor(inputs: Any) -> Tensor:
    """The tensor itself, or the first one of a dict, which may hold further dicts.

    Raises:
        TypeError: If there is none.

    Example:
        >>> import torch
        >>> first_tensor({"rgb": torch.zeros(2, 3), "present": {}}).shape
        torch.Size([2, 3])
    """
    found: list[Tensor] = []
    apply_to_collection(inputs, Tensor, found.append)
    if not found:
        raise TypeError(f"a teacher is given a tensor or a dict of tensors, not a {type(inputs).__name__}.")
    return found[0]


def chunks(inputs: Any, size: int) -> list[Any]:
    """Cuts a batch, and every tensor of a dict, into parts of `size` samples; the last one may be smaller.

    Example:
        >>> import torch
        >>> [part["rgb"].tolist() for part in chunks({"rgb": torch.arange(3)}, 2)]
        [[0, 1], [2]]
    """
    starts = range(0, len(first_tensor(inputs)), size)
    return [apply_to_collection(inputs, Tensor, lambda t, i=i: t[i : i + size]) for i in starts]


def shape_of(inputs: Any) -> Any:
    """Shapes, for people.

    Example:
        >>> import torch
        >>> shape_of({"rgb": torch.zeros(2, 3)})
        {'rgb': (2, 3)}
    """
    return apply_to_collection(inputs, Tensor, lambda t: tuple(t.shape))
