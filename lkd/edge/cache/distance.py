"""Distances between two answers."""

import torch
from torch import Tensor

FLAT = 0.1
"""Smallest size of a row, as a share of the others: a row near zero is nothing but rounding."""


def distances(one: Tensor, other: Tensor, among: Tensor | None = None) -> Tensor:
    """Returns for each row the norm of the difference, relative to the norm of the row of `one`.

    It is infinite where NaN or infinity are not in the same places.

    Args:
        one: `(B, ...)`, or a single number.
        other: Tensor of the same shape.
        among: Rows whose norms say how large a row is. Default: those of `one`.

    Returns:
        `(B,)`, float64, on the CPU.

    Example:
        >>> distances(torch.tensor([[3.0, 4.0], [3.0, 4.0]]), torch.tensor([[3.0, 3.0], [3.0, torch.nan]])).tolist()
        [0.2, inf]
    """
    a, b = _numbers(one), _numbers(other)
    same = (a == b) | (a.isnan() & b.isnan())
    off = torch.where(same, 0.0, a - b).norm(dim=1).nan_to_num(torch.inf, torch.inf)
    size = _sizes(a)
    usual = _sizes(a if among is None else _numbers(among)).square().mean().sqrt() if a.numel() else 0.0
    return torch.where(off > 0, off / size.clamp(min=FLAT * float(usual)), 0.0)


def distance(one: Tensor, other: Tensor, among: Tensor | None = None) -> float:
    """Returns the largest of `distances`, or 0 without rows.

    Example:
        >>> distance(torch.tensor([3.0, -torch.inf]), torch.tensor([3.0, -torch.inf]))
        0.0
    """
    return max(distances(one, other, among).tolist(), default=0.0)


def alike(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 1e-3) -> bool:
    """Returns whether the findings in a sample are the same, up to what rounding does at a threshold.

    Detections are the same if label, score (to .05) and box are. One may be missing in one of the answers,
    and a tenth may differ. Answers without boxes and scores are the same if all of their tensors are.

    Args:
        one: Tensors by name.
        other: Tensors by name.
        tolerance: Relative distance up to which tensors are the same. Boxes may be five times as far apart,
            and at least a tenth of their size.

    Example:
        >>> found = {"boxes": torch.tensor([[0.0, 0, 9, 9], [20, 20, 30, 30]]), "scores": torch.tensor([0.9, 0.26])}
        >>> fewer = {name: tensor[:1] for name, tensor in found.items()}
        >>> alike(found, fewer), alike(fewer, {**fewer, "boxes": fewer["boxes"] + 5})
        (True, False)
    """
    if one.keys() != other.keys():
        return False
    if not {"boxes", "scores"} <= one.keys():
        return all(v.shape == other[k].shape and distance(v, other[k]) <= tolerance for k, v in one.items())
    same = _pairs(one, other, max(0.1, 5 * tolerance))
    alone = [int((~same.any(dim)).sum()) for dim in (1, 0)]
    return sum(alone) <= 1 or max(alone) <= 0.1 * max(same.shape)


def _pairs(one: dict[str, Tensor], other: dict[str, Tensor], slack: float) -> Tensor:
    """Returns as `(N, M)` which detection of one answer `(N,)` matches which of the other `(M,)`."""
    boxes, theirs = (each["boxes"].detach().cpu().double().reshape(-1, 4) for each in (one, other))
    size = (boxes[:, 2:] - boxes[:, :2]).abs().amax(1) if len(boxes) else boxes.new_zeros(0)
    room = slack * size + 4e-3 * (float(boxes.abs().max()) if len(boxes) else 0.0)  # what bfloat16 rounds off
    same = (boxes[:, None] - theirs).abs().amax(2) <= room[:, None]
    scores, others = (each["scores"].detach().cpu().double() for each in (one, other))
    same &= (scores[:, None] - others).abs() <= 0.05
    if "labels" in one:
        same &= one["labels"].cpu()[:, None] == other["labels"].cpu()
    return same


def _numbers(tensor: Tensor) -> Tensor:
    """Returns a tensor as rows of float64 on the CPU."""
    tensor = tensor.detach().cpu()
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    rows = tensor.double()[None] if tensor.ndim == 0 else tensor.double()
    return rows.flatten(1) if rows.ndim > 1 else rows[:, None]


def _sizes(rows: Tensor) -> Tensor:
    return rows.where(rows.isfinite(), 0.0).norm(dim=1)
