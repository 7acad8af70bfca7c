"""Clipping of a client's change of the weights to a length."""

import math

import torch

from lkd.federated.protocol.tensors import Tensors, as_real


def length(change: Tensors) -> float:
    """Returns the Euclidean norm of all numbers of a change, in float64.

    Numbers are added in the order of their names and places, however they lie in memory, so that all engines
    find the same.

    Example:
        >>> length({"w": torch.tensor([3.0, 0.0]), "b": torch.tensor(4.0)})
        5.0
    """
    squares = [
        as_real(change[name]).contiguous().reshape(-1).double().square().sum() for name in sorted(change)
    ]
    return math.sqrt(float(torch.stack(squares).sum())) if squares else 0.0


def factor(change: Tensors, clip: float) -> float:
    """Returns what a change is multiplied by to be `clip` long at most: `min(1, clip / length)`.

    Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv:1607.00133, Algorithm 1; of a
    client's whole change, as McMahan et al. 2018 (arXiv:1710.06963, FlatClip) do.

    Example:
        >>> factor({"w": torch.tensor([3.0, 4.0])}, clip=1.0), factor({"w": torch.tensor([0.3, 0.4])}, clip=1.0)
        (0.2, 1.0)
    """
    found = length(change)
    return clip / found if found > clip else 1.0


def clipped(change: Tensors, clip: float) -> Tensors:
    """Returns a change that is `clip` long at most, up to the rounding of its type.

    Example:
        >>> clipped({"w": torch.tensor([3.0, 4.0])}, clip=1.0)
        {'w': tensor([0.6000, 0.8000])}
    """
    by = factor(change, clip)
    if by == 1.0:
        return change
    return {name: (_wide(tensor) * by).to(tensor.dtype) for name, tensor in change.items()}


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    """Copies a tensor in double precision, where a product is not rounded twice."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float64))
