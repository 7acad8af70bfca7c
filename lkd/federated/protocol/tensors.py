"""Named tensors, of which a model consists, and which travel between clients and server."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
"""Tensors by the name of the parameter or buffer that they belong to."""

Groups = dict[str, Tensors]
"""Groups of named tensors by their meaning, such as `{"delta": ..., "c": ...}`: the payload of a message."""

Lists = dict[str, list[Tensor]]
"""Tensors by group, each list aligned with the shared trainable parameters."""


def zeros_like(tensors: Mapping[str, Tensor]) -> Tensors:
    """Returns zeros of the same names, shapes, types and devices."""
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


def moved(tensors: Mapping[str, Tensor], device: torch.device | str) -> Tensors:
    """Copies tensors to a device, detached, so that neither side sees the other's later edits."""
    return {name: tensor.detach().to(device, copy=True) for name, tensor in tensors.items()}


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, list[Any]]:
    """Returns shape and type of each tensor, as plain values.

    Example:
        >>> shapes({"w": torch.ones(2, 3)})
        {'w': [2, 3, 'torch.float32']}
    """
    return {name: [*tensor.shape, str(tensor.dtype)] for name, tensor in tensors.items()}


def is_inexact(tensor: Tensor) -> bool:
    """Tells whether values are float or complex, and so are averaged; counters and indices are not."""
    return tensor.is_floating_point() or tensor.is_complex()


def as_real(tensor: Tensor) -> Tensor:
    """Views complex numbers `(...)` as pairs of real ones `(..., 2)`; other tensors stay as they are.

    Example:
        >>> as_real(torch.tensor([1 + 2j]))
        tensor([[1., 2.]])
    """
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def as_type(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Copies real numbers in another type; pairs become complex numbers again if that type is complex.

    Example:
        >>> as_type(torch.tensor([[1.0, 2.0]], dtype=torch.float64), torch.complex64)
        tensor([1.+2.j])
    """
    if not dtype.is_complex:
        return values.to(dtype, copy=True)
    return torch.view_as_complex(values.to(dtype.to_real(), copy=True).contiguous())


def laid_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Returns a tensor whose numbers lie in memory as those of another of its shape do.

    Fused optimizers walk through weight and gradient in memory's order, whatever their strides.

    Example:
        >>> weight = torch.zeros(2, 3).T
        >>> laid_like(torch.ones(3, 2), weight).stride() == weight.stride()
        True
    """
    return tensor if tensor.stride() == like.stride() else torch.empty_like(like).copy_(tensor)


def num_bytes(groups: Mapping[str, Mapping[str, Tensor]]) -> int:
    """Counts the bytes of all tensors of a message.

    Example:
        >>> num_bytes({"delta": {"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}})
        32
    """
    return sum(tensor.nbytes for group in groups.values() for tensor in group.values())


def is_exchanged(tensor: Tensor) -> bool:
    """Tells whether a tensor is of a type that is averaged, compared or counted; one of 8 bits of float is not."""
    return not (tensor.is_floating_point() and tensor.element_size() < 2)


class NormedTensors(dict[str, Tensor]):
    """Tensors whose norm somebody in this process has computed already, with those of other clients at once.

    A norm of tensors that were changed or replaced since, in place too, is not known any more.

    Args:
        tensors: The tensors by name.
        length: Their norm.
    """

    __slots__ = ("_stamp", "length")

    def __init__(self, tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]], length: float) -> None:
        super().__init__(tensors)
        self.length, self._stamp = length, self._seen()

    def _seen(self) -> list[tuple[int, int]]:
        return [(id(t), 0 if t.is_inference() else t._version) for t in self.values()]

    @property
    def known(self) -> bool:
        """Whether the tensors are those that were measured."""
        return self._stamp == self._seen()


def norm(tensors: Mapping[str, Tensor]) -> float:
    """Returns the Euclidean norm of all values, in float64 where squares would overflow their own type.

    It is finite if all values are, unless the norm itself is beyond a float64.

    Example:
        >>> round(norm({"a": torch.tensor([3e30]), "b": torch.tensor([[4e30]])}) / 1e30, 3)
        5.0
    """
    if isinstance(tensors, NormedTensors) and tensors.known:
        return tensors.length
    values = [as_real(tensor) for tensor in tensors.values() if tensor.numel()]
    length = math.hypot(*_norms(values))
    if math.isfinite(length) or not values:
        return length
    return math.hypot(*(n.item() for n in torch._foreach_norm(values, 2, torch.float64)))


def _norms(values: list[Tensor]) -> list[float]:
    """The norm of each tensor, with one wait for a device."""
    if not values:
        return []
    found = torch._foreach_norm(values)
    if values[0].is_cpu:
        return [one.item() for one in found]
    return torch.stack([one.float() for one in found]).tolist()


def measured(tensors: Mapping[str, Tensor]) -> NormedTensors | None:
    """Computes the norm of tensors, once for all who ask for it; None if a value is NaN or infinite."""
    length = norm(tensors)
    return NormedTensors(tensors, length) if math.isfinite(length) or all_finite(tensors.values()) else None


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Tells whether no value is NaN or infinite."""
    floats = [as_real(tensor) for tensor in tensors if is_inexact(tensor) and tensor.numel()]
    # the norm of large finite values may overflow, so only a finite sum of norms proves anything
    return math.isfinite(sum(_norms(floats))) or all(bool(tensor.isfinite().all()) for tensor in floats)
