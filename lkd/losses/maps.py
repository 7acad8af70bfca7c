"""Common parts of losses on feature maps: the kind of tensor, equal sizes, equal widths."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn

from lkd.losses.adapters import channels
from lkd.losses.inputs import Tapped, level_pairs, levels, mean_over_levels


def require_maps(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both, or raises ValueError if one is no map `(B, C, H, W)`.

    Example:
        >>> import torch
        >>> require_maps(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3, 3))
        Traceback (most recent call last):
        ...
        ValueError: the student's features must be maps (B, C, H, W), got (1, 2, 3)
    """
    for name, value in (("student", student), ("teacher", teacher)):
        if value.dim() != 4:
            raise ValueError(f"the {name}'s features must be maps (B, C, H, W), got {tuple(value.shape)}")
    return student, teacher


def as_maps(features: Tensor) -> Tensor:
    """Returns vectors `(B, C)`, such as pooled embeddings, as maps of one position.

    Other tensors are returned as they are.

    Example:
        >>> import torch
        >>> as_maps(torch.zeros(2, 8)).shape
        torch.Size([2, 8, 1, 1])
    """
    return features[:, :, None, None] if features.dim() == 2 else features


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pools maps to the smaller height and the smaller width of the two.

    Example:
        >>> import torch
        >>> [x.shape[2:] for x in same_size(torch.zeros(1, 2, 4, 8), torch.zeros(1, 2, 6, 6))]
        [torch.Size([4, 6]), torch.Size([4, 6])]
    """
    if student.dim() != 4 or teacher.dim() != 4 or student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    height, width = (min(s, t) for s, t in zip(student.shape[2:], teacher.shape[2:], strict=True))
    return F.adaptive_avg_pool2d(student, (height, width)), F.adaptive_avg_pool2d(teacher, (height, width))


def same_width(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both, or raises ValueError if their channels, or other parts of their shapes, differ.

    Example:
        >>> import torch
        >>> same_width(torch.zeros(1, 2), torch.zeros(1, 3))
        Traceback (most recent call last):
        ...
        ValueError: student has 2 channels, teacher 3: pass the term's adapter, which maps one to the other
    """
    if student.dim() == teacher.dim() and channels(student) != channels(teacher):
        raise ValueError(
            f"student has {channels(student)} channels, teacher {channels(teacher)}: "
            "pass the term's adapter, which maps one to the other"
        )
    if student.shape != teacher.shape:
        raise ValueError(
            f"student features {tuple(student.shape)} and teacher's {tuple(teacher.shape)} do not match"
        )
    return student, teacher


def require_positions(student: Tensor, teacher: Tensor, loss: str) -> tuple[Tensor, Tensor]:
    """Returns both, or raises ValueError if maps have a single position, where there is nothing to compare.

    Args:
        student: Maps `(B, C, H, W)`.
        teacher: Maps `(B, C', H, W)`.
        loss: Name of a loss that compares places on a map.

    Example:
        >>> import torch
        >>> require_positions(torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1), "CWD")
        Traceback (most recent call last):
        ...
        ValueError: CWD compares where on a map something is, and maps of one position (B, C, 1, 1) give it no gradient: name
        layers before the pooling, or take FitNets, which compares values
    """
    if student.shape[2:].numel() == 1:
        raise ValueError(
            f"{loss} compares where on a map something is, and maps of one position (B, C, 1, 1) give it no gradient: name "
            "layers before the pooling, or take FitNets, which compares values"
        )
    return student, teacher


def with_positions(student: Tapped, teacher: Tapped, loss: str) -> tuple[Tapped, Tapped]:
    """Leaves out, with a warning, layers where the student's map has one position.

    The coarsest maps of a pyramid over a small image can be such. If no layer is left, all stay, so that the
    loss refuses them.

    Args:
        student: A tensor, or a list with one tensor for each layer.
        teacher: The teacher's counterpart, as many layers.
        loss: Name of a loss that compares places on a map.

    Example:
        >>> import torch
        >>> maps = [torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 3, 3)]
        >>> [len(side) for side in with_positions(maps, maps, "CWD")]
        [2, 2]
    """
    pairs = level_pairs(student, teacher)
    left = [pair for pair in pairs if pair[0].shape[2:].numel() > 1] or pairs
    if len(left) < len(pairs):
        rank_zero_warn(
            f"{loss} leaves out {len(pairs) - len(left)} of {len(pairs)} layers, whose maps have one position and nothing to compare."
        )
    return [ours for ours, _ in left], [theirs for _, theirs in left]


def mean_over_adapted(
    loss: Callable[[Tensor, Tensor, Any], Tensor],
    student: Tapped,
    teacher: Tapped,
    modules: nn.Module | None,
) -> Tensor:
    """Averages `loss` over pairs of layers, each with the module that its adapter has for it.

    Args:
        loss: Function of a student's tensor, a teacher's, and the module.
        student: A tensor, or a list with one tensor for each layer.
        teacher: The teacher's counterpart, as many layers.
        modules: Result of the term's `adapter`, a `ModuleList` with one module for each layer.

    Returns:
        The mean loss, a scalar.

    Raises:
        ValueError: If there is no adapter, or the numbers of layers differ.

    Example:
        >>> import torch
        >>> mean_over_adapted(lambda s, t, net: (net(s) - t).sum(), torch.ones(1, 2), torch.zeros(1, 2),
        ...                   nn.ModuleList([nn.Identity()]))
        tensor(2.)
    """
    if not isinstance(modules, nn.ModuleList):
        raise ValueError("this loss learns a module of its own: pass what the term's adapter() returned")
    if len(modules) != len(levels(student)):
        raise ValueError(
            f"the adapter was made for {len(modules)} layers, the student gave {len(levels(student))}"
        )
    remaining = iter(modules)
    return mean_over_levels(lambda s, t: loss(s, t, next(remaining)), student, teacher)
