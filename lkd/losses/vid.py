"""Variational information distillation: a Gaussian over the teacher's features, with learned variances."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkd.checks import expect
from lkd.losses.adapters import channels
from lkd.losses.inputs import Tapped, full_precision, level_pairs, prepare
from lkd.losses.layers import conv2d
from lkd.losses.maps import as_maps, mean_over_adapted, require_maps, same_size, same_width
from lkd.losses.term import Term

FLOOR = 1e-5
"""Lowest variance, the epsilon of the paper; its value is the authors'."""


def vid_loss(mean: Tensor, teacher: Tensor, variance: Tensor) -> Tensor:
    """Computes `1/2 ((mean - teacher)² / variance + log variance)`, a Gaussian's -log density plus const.

    Mean over batch, channels and positions. (The paper sums over channels and positions; the mean is that of
    the authors' code, and a weight of 1 belongs to it.) It may be negative: its minimum over the variance of
    a channel is `1/2 (1 + log r)`, where the variance equals the mean squared error r of the channel.

    Ahn et al.: Variational Information Distillation for Knowledge Transfer, CVPR 2019, arXiv:1904.05835,
    Section 2.1.

    Args:
        mean: The student's prediction of the teacher's features, `(B, C, H, W)`.
        teacher: The teacher's features `(B, C, H, W)`; no gradient flows into them.
        variance: Variance of each channel `(C,)`, above 0.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If shapes do not fit.

    Example:
        >>> maps = torch.ones(1, 2, 1, 1)
        >>> vid_loss(maps, 3 * maps, torch.tensor([1.0, 1.0]))  # 2² / 2
        tensor(2.)
    """
    mean, teacher = same_width(*require_maps(*prepare(mean, teacher)))
    if variance.shape != (mean.shape[1],):
        raise ValueError(f"variance must have the shape ({mean.shape[1]},), got {tuple(variance.shape)}")
    variance = full_precision(variance)[:, None, None]
    return 0.5 * ((mean - teacher).square() / variance + variance.log()).mean()


class GaussianRegressor(nn.Module):
    """Three 1x1 convolutions with ReLU between them, and a learned variance for each channel of the teacher.

    `variance = log(1 + exp(log_scale)) + 1e-5`, with the parameter `log_scale (C,)`.

    Args:
        in_channels: Channels of the student.
        out_channels: Channels of the teacher, also those in between.
        generator: Random generator of the initial weights.
        variance: Initial variance, above 1e-5.

    Example:
        >>> net = GaussianRegressor(4, 6, torch.Generator().manual_seed(0), variance=5.0)
        >>> net(torch.zeros(2, 4, 3, 3)).shape, net.variance.mean()
        (torch.Size([2, 6, 3, 3]), tensor(5.0000, grad_fn=<MeanBackward0>))
    """

    def __init__(
        self, in_channels: int, out_channels: int, generator: torch.Generator, variance: float
    ) -> None:
        super().__init__()
        self.net = nn.Sequential(
            conv2d(in_channels, out_channels, generator, bias=False),
            nn.ReLU(),
            conv2d(out_channels, out_channels, generator, bias=False),
            nn.ReLU(),
            conv2d(out_channels, out_channels, generator, bias=False),
        )
        self.log_scale = nn.Parameter(torch.full((out_channels,), math.log(math.expm1(variance - FLOOR))))

    @property
    def variance(self) -> Tensor:
        """Variance of each channel `(C,)`."""
        return F.softplus(full_precision(self.log_scale)) + FLOOR

    def forward(self, features: Tensor) -> Tensor:
        """Predicts the mean of the teacher's features `(B, C', H, W)` from the student's `(B, C, H, W)`."""
        return self.net(features.to(self.log_scale.dtype))


class VID(Term):
    """Variational information distillation, `vid_loss`; layers are averaged.

    The student learns together with a regressor for each layer and a variance for each channel, which says
    how much of it can be predicted. Both are the term's adapter, so whatever attaches the term must train
    them.

    Args:
        variance: Initial variance of every channel, above 1e-5. Default 5, the authors'.
        weight: Factor of the loss. The authors have 1 for the sum over the layers: the number of layers here.
        student_layer: Layer, or layers, of the student: maps, or vectors `(B, C)`.
        teacher_layer: Their counterparts in the teacher. Sizes meet as in `fitnets_loss`.
        seed: Seed of the regressors' initial weights.

    Example:
        >>> term = VID(student_layer="stage2", teacher_layer="stage2")
        >>> student, teacher = torch.zeros(2, 8, 4, 4), torch.zeros(2, 16, 4, 4)
        >>> term(student, teacher, adapter=term.adapter(student, teacher))  # 1/2 log 5
        tensor(0.8047, grad_fn=<...>)
    """

    def __init__(
        self,
        variance: float = 5.0,
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
        seed: int = 0,
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        expect(variance=variance, gt=FLOOR)
        self.variance = variance
        self.seed = seed

    def adapter(self, student: Tapped, teacher: Tapped) -> nn.ModuleList:
        """Builds a regressor with variances for each layer, also where the widths agree."""
        generator = torch.Generator().manual_seed(self.seed)
        return nn.ModuleList(
            GaussianRegressor(channels(s), channels(t), generator, self.variance).to(s.device)
            for s, t in level_pairs(student, teacher)
        )

    def forward(
        self, student: Tapped, teacher: Tapped, labels: Tensor | None = None, adapter: nn.Module | None = None
    ) -> Tensor:
        """Computes the mean of `vid_loss` over the layers."""
        return mean_over_adapted(_loss, student, teacher, adapter)


def _loss(student: Tensor, teacher: Tensor, regressor: GaussianRegressor) -> Tensor:
    # The student is pooled before it is regressed, as in the authors' code.
    student, teacher = same_size(*require_maps(as_maps(student), as_maps(teacher)))
    return vid_loss(regressor(student), teacher, regressor.variance)
