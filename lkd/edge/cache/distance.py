"""Whether two answers are the same."""

import math

from torch import Tensor


def distance(one: Tensor, other: Tensor) -> float:
    """The norm of the difference over that of `one`; NaN and infinity count as equal where both have them.

    Example:
        >>> import torch
        >>> distance(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.0]))
        0.2
    """
    a, b = (t.detach().double().nan_to_num() for t in (one, other))
    off, norm = float((a - b).norm()), float(a.norm())
    return 0.0 if off == 0 else math.inf if norm == 0 else off / norm


def alike(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two lists of detections are the same up to what rounding does at a threshold.

    Example:
        >>> import torch
        >>> alike({"scores": torch.tensor([0.9, 0.26])}, {"scores": torch.tensor([0.9])})
        True
    """
    if one.keys() != other.keys():
        return False
    counts = [max((len(v) for v in found.values() if v.ndim), default=0) for found in (one, other)]
    if abs(counts[0] - counts[1]) > max(1, 0.1 * max(counts)):
        return False
    if "scores" not in one:
        return True
    a, b = (f["scores"].detach().double().sort(descending=True).values[: min(counts)] for f in (one, other))
    return bool((a - b).abs().le(0.05).all())
