"""Distillation of the flow between layers: FSP matrices."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkd.losses.adapted import AdaptedTerm
from lkd.losses.adapters import adapt
from lkd.losses.inputs import Tapped, full_precision, levels, prepare
from lkd.losses.maps import require_maps, same_size, same_width
from lkd.losses.unit import gram


def fsp_matrix(bottom: Tensor, top: Tensor) -> Tensor:
    """Computes `G_ij = 1/(HW) sum_hw bottom_i top_j`, how strongly the channels of two layers occur together.

    The larger map is averaged down to the smaller one's size, as in RepDistiller (the paper uses max
    pooling, or layers of one size).

    Yim et al.: A Gift from Knowledge Distillation, CVPR 2017, Equation 1.

    Args:
        bottom: Maps `(B, C, H, W)`.
        top: Maps `(B, C', H', W')` of a later layer of the same network.

    Returns:
        The matrices `(B, C, C')`, in float32 at least.

    Raises:
        ValueError: If the features are no maps.

    Example:
        >>> fsp_matrix(torch.ones(1, 2, 4, 4), 3 * torch.ones(1, 1, 2, 2))
        tensor([[[3.],
                 [3.]]])
    """
    if bottom.dim() != 4 or top.dim() != 4:
        raise ValueError(
            f"an FSP matrix is made of maps (B, C, H, W), got {tuple(bottom.shape)} and {tuple(top.shape)}"
        )
    first, second = (full_precision(x).flatten(2) for x in same_size(bottom, top))
    return gram(first, second) / first.shape[2]


def fsp_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Computes the mean squared difference of the FSP matrices of consecutive layers.

    Mean over the entries of a matrix, the batch and the pairs of layers. The paper sums over the entries,
    with a weight for each pair (Equation 2); RepDistiller averages them, sums over the pairs, and has a
    weight of 50. Sizes of maps may differ between student and teacher, channels may not.

    Yim et al., CVPR 2017, Equation 2.

    Args:
        student: Maps `(B, C_l, H_l, W_l)` of two layers or more, from the input on.
        teacher: Maps of as many layers with the same C_l; no gradient flows into them.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If there are fewer than two layers, their numbers or channels differ, or they are no maps.

    Example:
        >>> layers = [torch.ones(1, 2, 4, 4), torch.ones(1, 3, 2, 2)]
        >>> fsp_loss(layers, [2 * x for x in layers])  # (1 - 4)²
        tensor(9.)
    """
    if len(student) != len(teacher) or len(student) < 2:
        raise ValueError(
            "FSP relates consecutive layers: student_layer and teacher_layer must be lists of equally many, at "
            f"least two, got {len(student)} and {len(teacher)}"
        )
    ours, theirs = zip(
        *(require_maps(*prepare(s, t)) for s, t in zip(student, teacher, strict=True)), strict=True
    )
    parts = []
    for (s, s_next), (t, t_next) in zip(pairwise(ours), pairwise(theirs), strict=True):
        parts.append(F.mse_loss(*same_width(fsp_matrix(s, s_next), fsp_matrix(t, t_next))))
    return torch.stack(parts).mean()


class FSP(AdaptedTerm):
    """Flow between consecutive layers, `fsp_loss`; where widths differ, through 1x1 adapters.

    The paper needs equal channels; the adapters are our addition. The usual weight of 50 belongs to a sum
    over the pairs of layers: multiply it by their number here.

    Args:
        weight: Factor of the loss.
        student_layer: Two layers or more of the student, from the input on.
        teacher_layer: Their counterparts in the teacher.
        seed: Seed of the adapters' initial weights.

    Example:
        >>> stages = [torch.ones(2, 4, 8, 8), torch.ones(2, 8, 4, 4)]
        >>> FSP(student_layer=["body.1", "body.2"], teacher_layer=["body.1", "body.2"])(stages, stages)
        tensor(0.)
    """

    def forward(
        self, student: Tapped, teacher: Tapped, labels: Tensor | None = None, adapter: nn.Module | None = None
    ) -> Tensor:
        """Computes `fsp_loss` of consecutive layers, which needs all layers at once."""
        return fsp_loss(levels(adapt(student, adapter)), levels(teacher))
