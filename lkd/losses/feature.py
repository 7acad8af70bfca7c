"""Distillation of intermediate features: FitNets, attention transfer and channel-wise distillation."""

import torch.nn.functional as F
from torch import Tensor

from lkd.checks import expect
from lkd.losses.adapted import AdaptedTerm
from lkd.losses.inputs import prepare
from lkd.losses.maps import require_maps, require_positions, same_size, same_width
from lkd.losses.pairwise import PairwiseTerm


def fitnets_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Computes the mean squared difference of two features.

    Maps of different sizes meet at the smaller height and the smaller width: the larger one is averaged down.

    Romero et al.: FitNets: Hints for Thin Deep Nets, ICLR 2015, arXiv:1412.6550, Equation 3.

    Args:
        student: Features `(B, C)`, `(B, N, C)` or `(B, C, H, W)`.
        teacher: Features with the same C; no gradient flows into them.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If kinds, channels or numbers of tokens differ.

    Example:
        >>> import torch
        >>> fitnets_loss(torch.ones(1, 2, 4, 4), torch.zeros(1, 2, 2, 2))
        tensor(1.)
    """
    return F.mse_loss(*same_width(*same_size(*prepare(student, teacher))))


def attention_transfer_loss(student: Tensor, teacher: Tensor, p: float = 2.0) -> Tensor:
    """Computes the mean squared difference of normalized attention maps.

    The map of a feature is the mean of |feature|^p over the channels, as a vector of length 1; channels may
    differ between student and teacher, and the scale of a feature does not matter. Sizes meet as in
    `fitnets_loss`.

    Zagoruyko and Komodakis: Paying More Attention to Attention, ICLR 2017, arXiv:1612.03928, Section 3.1. The
    mean over positions, not the sum, follows the authors' code, for which a weight of 1000 is customary.
    Their code has p = 2 alone; others' (RepDistiller, mdistiller) takes the mean of feature^p, which for an
    odd p is not the paper's |feature|^p: negative features then take away from positive ones. For even p all
    agree.

    Args:
        student: Maps `(B, C, H, W)`.
        teacher: Maps `(B, C', H', W')`; no gradient flows into them.
        p: Power, at least 1 (below it the gradient is infinite at 0).

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the features are no maps, have a single position, or p is below 1.

    Example:
        >>> import torch
        >>> maps = torch.arange(16.0).reshape(1, 4, 2, 2)
        >>> attention_transfer_loss(maps, 4 * maps)
        tensor(0.)
    """
    expect(p=p, ge=1)
    student, teacher = same_size(*require_maps(*prepare(student, teacher)))
    student, teacher = require_positions(student, teacher, "AttentionTransfer")
    ours, theirs = (F.normalize(x.abs().pow(p).mean(1).flatten(1)) for x in (student, teacher))
    return F.mse_loss(ours, theirs)


def cwd_loss(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """Computes the KL between the spatial softmax of each channel, times `tau² / (C B)`.

    Each channel says where it is active; its offset does not matter. Sizes meet as in `fitnets_loss`.

    Shu et al.: Channel-wise Knowledge Distillation for Dense Prediction, ICCV 2021, arXiv:2011.13256,
    Section 3.2.

    Args:
        student: Maps `(B, C, H, W)`.
        teacher: Maps with the same C; no gradient flows into them.
        tau: Temperature of the softmax over the H x W positions, above 0.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the features are no maps or have a single position, the channels differ, or tau is not
            above 0.

    Example:
        >>> import torch
        >>> maps = torch.arange(8.0).reshape(1, 2, 2, 2)
        >>> cwd_loss(maps, maps + 5.0)
        tensor(0.)
    """
    expect(tau=tau, gt=0)
    student, teacher = same_width(*same_size(*require_maps(*prepare(student, teacher))))
    student, teacher = require_positions(student, teacher, "CWD")
    ours, theirs = (F.log_softmax(x.flatten(2) / tau, dim=2).flatten(0, 1) for x in (student, teacher))
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * tau**2


class FitNets(AdaptedTerm):
    """Mean squared difference of features, `fitnets_loss`, through a linear adapter; layers are averaged.

    Args:
        weight: Factor of the loss.
        student_layer: Layer, or layers, of the student.
        teacher_layer: Their counterparts in the teacher.
        seed: Seed of the adapter's initial weights.

    Example:
        >>> import torch
        >>> term = FitNets(weight=100.0, student_layer="stage2", teacher_layer="stage2")
        >>> student, teacher = torch.zeros(2, 8, 4, 4), torch.zeros(2, 16, 4, 4)
        >>> term(student, teacher, adapter=term.adapter(student, teacher)).item()
        0.0
    """

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes `fitnets_loss` of one layer."""
        return fitnets_loss(student, teacher)


class AttentionTransfer(PairwiseTerm):
    """Difference of attention maps, `attention_transfer_loss`; the layers (stages) are averaged.

    Args:
        p: Power of the features' absolute values, as in the paper, at least 1; see `attention_transfer_loss`
            for odd ones.
        weight: Factor of the loss; 1000 is customary for the sum of the stages, which is that many times
            their mean.
        student_layer: Layer, or layers, of the student.
        teacher_layer: Their counterparts in the teacher; no adapter is needed.

    Example:
        >>> import torch
        >>> stages = [torch.ones(2, 8, 4, 4), torch.ones(2, 16, 2, 2)]
        >>> AttentionTransfer()(stages, stages)
        tensor(0.)
    """

    compares_positions = True

    def __init__(
        self,
        p: float = 2.0,
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        self.p = p

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes `attention_transfer_loss` of one layer."""
        return attention_transfer_loss(student, teacher, self.p)


class CWD(AdaptedTerm):
    """Channel-wise distillation of maps, `cwd_loss`, through 1x1 adapters; the layers are averaged.

    Args:
        tau: Temperature of the spatial softmax, above 0.
        weight: Factor of the loss.
        student_layer: Layer, or layers, of the student.
        teacher_layer: Their counterparts in the teacher.
        seed: Seed of the adapters' initial weights.

    Example:
        >>> import torch
        >>> CWD(tau=4.0)([torch.ones(2, 8, 4, 4)], [torch.zeros(2, 8, 4, 4)])
        tensor(0.)
    """

    bias = False  # the loss would ignore it
    compares_positions = True

    def __init__(
        self,
        tau: float = 1.0,
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
        seed: int = 0,
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer, seed)
        expect(tau=tau, gt=0)
        self.tau = tau

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes `cwd_loss` of one layer."""
        return cwd_loss(student, teacher, self.tau)
