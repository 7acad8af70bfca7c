"""Cross-head predictions: a student's maps continue through the rest of a teacher's head."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lkd.losses.inputs import full_precision, prepare
from lkd.losses.maps import require_maps, same_width
from lkd.losses.unit import unit

Rest = Callable[[Tensor], Tensor]

CONSTANT = 1e-6
"""Standard deviation up to which a channel of the student counts as constant."""


def align_statistics(student: Tensor, teacher: Tensor) -> Tensor:
    """Computes `(s - mean(s)) / std(s) * std(t) + mean(t)`, by channel, over batch and positions.

    The student's maps get the teacher's statistics of this batch, so that its head sees inputs of the usual
    kind. A constant channel becomes the teacher's mean, without gradient (the authors' code divides by
    `std(s) + 1e-6`).

    Args:
        student: Maps `(B, C, H, W)`.
        teacher: Maps of the same shape; no gradient flows into them.

    Returns:
        Maps `(B, C, H, W)`, at least float32.

    Raises:
        ValueError: If the features are no maps or the shapes differ.

    Example:
        >>> align_statistics(torch.tensor([[[[0.0, 1.0, 2.0]]]]), torch.tensor([[[[5.0, 11.0, 8.0]]]]))
        tensor([[[[ 5.,  8., 11.]]]])
    """
    student, teacher = require_maps(*prepare(student, teacher))
    if student.shape[2:] != teacher.shape[2:]:
        raise ValueError(
            f"the student's maps are of size {tuple(student.shape[2:])}, the teacher's {tuple(teacher.shape[2:])}: "
            "the teacher's head answers position by position, so both must see images of one size"
        )
    student, teacher = same_width(student, teacher)
    ours, theirs = (x.transpose(0, 1).flatten(1) for x in (student, teacher))  # (C, n) with n = B H W
    mean = theirs.mean(1, keepdim=True)
    # deviation is length / sqrt(n), or sqrt(n - 1): with the same n on both sides it is the ratio of the
    # lengths
    length = torch.linalg.vector_norm(theirs - mean, dim=1, keepdim=True)
    pattern = unit(ours - ours.mean(1, keepdim=True), shortest=CONSTANT * math.sqrt(max(ours.shape[1], 1)))
    aligned = pattern * length + mean
    return aligned.unflatten(1, (len(student), *student.shape[2:])).transpose(0, 1)


def cross_predictions(student: Tensor, teacher: Tensor, rest: Rest) -> tuple[Tensor, Tensor]:
    """Runs the rest of the teacher's head on the student's aligned maps, and on the teacher's own.

    Args:
        student: Maps `(B, C, H, W)`.
        teacher: The teacher's maps at the place where the rest begins.
        rest: Rest of the teacher from its maps on, which gives `(B, C', ...)`. It must not work in place.

    Returns:
        Cross-head predictions `(B, C', A)` over A positions, and the teacher's predictions, which have no
        graph.

    Raises:
        TypeError: If the rest gives no tensor.
        ValueError: If the maps do not fit.

    Example:
        >>> maps = torch.tensor([[[[0.0, 1.0, 2.0]]]])
        >>> cross_predictions(maps, 3 * maps + 5, lambda x: 2 * x)
        (tensor([[[10., 16., 22.]]]), tensor([[[10., 16., 22.]]]))
    """
    aligned = align_statistics(student, teacher).to(teacher.dtype)  # the type that the rest expects
    with torch.no_grad():
        target = rest(teacher.detach())
    predictions = (rest(aligned), target)
    for prediction in predictions:
        if not isinstance(prediction, Tensor) or prediction.dim() < 2:
            raise TypeError(
                f"the rest of the teacher's head must give a tensor (B, C, ...), got {type(prediction).__name__}"
            )
    ours, theirs = (full_precision(p)[..., None].flatten(2) for p in predictions)
    return ours, theirs
