"""Distillation of where neurons fire: neuron selectivity transfer."""

from torch import Tensor

from lkd.losses.inputs import prepare
from lkd.losses.maps import require_maps, require_positions, same_size
from lkd.losses.pairwise import PairwiseTerm
from lkd.losses.unit import gram, unit


def nst_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Computes the squared maximum mean discrepancy between the channels of two maps.

    `mean_ij k(s_i, s_j) + mean_ij k(t_i, t_j) - 2 mean_ij k(s_i, t_j)`, mean over the batch, where s_i and
    t_j are channels as vectors of length 1 over the positions, and `k(x, y) = (x . y)²` is the polynomial
    kernel of degree 2 with offset 0. Channels are a set: their order, number, scale and sign do not matter.
    Sizes meet as in `fitnets_loss`. Memory grows with the product of the channels.

    Huang and Wang: Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, 2017,
    arXiv:1707.01219, Section 4.

    Args:
        student: Maps `(B, C, H, W)`.
        teacher: Maps `(B, C', H', W')`; no gradient flows into them.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the features are no maps or have a single position.

    Example:
        >>> import torch
        >>> left, right = torch.eye(4).reshape(2, 2, 2, 2).split(1)  # no position in common
        >>> nst_loss(left, right), nst_loss(left, -3 * left.flip(1))  # 1/2 + 1/2 - 0, and the same set
        (tensor(1.), tensor(0.))
    """
    student, teacher = require_positions(*same_size(*require_maps(*prepare(student, teacher))), "NST")
    ours, theirs = (unit(x.flatten(2)) for x in (student, teacher))
    within_student, within_teacher, across = (
        gram(a, b).square().mean() for a, b in ((ours, ours), (theirs, theirs), (ours, theirs))
    )
    return within_student + within_teacher - 2 * across


class NST(PairwiseTerm):
    """Neuron selectivity transfer of maps, `nst_loss`; layers are averaged.

    A weight of 50 is usual for the sum over the stages: multiply it by their number here.

    Args:
        weight: Factor of the loss.
        student_layer: Layer, or layers, of the student.
        teacher_layer: Their counterparts in the teacher, of any width; no adapter is needed.

    Example:
        >>> import torch
        >>> maps = torch.arange(16.0).reshape(1, 4, 2, 2)
        >>> NST(weight=50.0)(maps, 2 * maps).abs().item() < 1e-6
        True
    """

    compares_positions = True

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes `nst_loss` of one layer."""
        return nst_loss(student, teacher)
