"""Distillation of the pattern of features, whatever their magnitude: Pearson correlation of channels."""

from torch import Tensor

from lkd.losses.adapted import AdaptedTerm
from lkd.losses.inputs import prepare
from lkd.losses.maps import require_maps, same_size, same_width
from lkd.losses.unit import unit


def pkd_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Computes half the mean squared difference of features that are standardized channel by channel.

    Mean and standard deviation are over the batch and the positions, so the loss is `1 - r`, with r the
    Pearson correlation of a channel of the student with the teacher's, mean over the channels: 0 for equal
    patterns, 1 for unrelated ones, at most 2. Offset and scale of a channel do not matter. A constant channel
    counts as all zeros, without gradient, and so does a single position in a batch of one. The deviation
    divides by n, not by n - 1 as in the authors' code, because only then the identity is exact. Sizes meet as
    in `fitnets_loss`.

    Cao et al.: PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient,
    NeurIPS 2022, arXiv:2207.02039, Section 3.

    Args:
        student: Maps `(B, C, H, W)`.
        teacher: Maps with the same C; no gradient flows into them.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the features are no maps or the channels differ.

    Example:
        >>> import torch
        >>> maps = torch.arange(8.0).reshape(1, 2, 2, 2)
        >>> pkd_loss(maps, 3 * maps - 1).item() < 1e-6, round(pkd_loss(maps, -maps).item(), 4)
        (True, 2.0)
    """
    ours, theirs = (_directions(x) for x in same_width(*same_size(*require_maps(*prepare(student, teacher)))))
    # Both sides are unit vectors for each channel, that is z / sqrt(n): the mean over n of z² is the sum of
    # squares.
    return 0.5 * (ours - theirs).square().sum(1).mean()


class PKD(AdaptedTerm):
    """Pearson correlation of maps, `pkd_loss`, through 1x1 adapters; layers (pyramid levels) are averaged.

    The authors' configurations have a weight of 10 on each of the four or five levels, which they sum:
    multiply it by their number here.

    Args:
        weight: Factor of the loss.
        student_layer: Layer, or layers, of the student.
        teacher_layer: Their counterparts in the teacher.
        seed: Seed of the adapters' initial weights.

    Example:
        >>> import torch
        >>> neck = [torch.arange(32.0).reshape(2, 1, 4, 4), torch.arange(8.0).reshape(2, 1, 2, 2)]
        >>> PKD(weight=10.0)(neck, [5 * level for level in neck]).item() < 1e-6
        True
    """

    relates_samples = True
    bias = False  # the loss would ignore it

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes `pkd_loss` of one layer."""
        return pkd_loss(student, teacher)


def _directions(maps: Tensor) -> Tensor:
    values = maps.transpose(0, 1).flatten(1)  # (C, n) with n = B H W
    return unit(values - values.mean(1, keepdim=True))
