"""Distillation of the correlation between samples: correlation congruence."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lkd.checks import expect
from lkd.losses.inputs import prepare
from lkd.losses.pairwise import PairwiseTerm
from lkd.losses.unit import cosines


def cc_loss(student: Tensor, teacher: Tensor, gamma: float = 0.4, order: int = 2) -> Tensor:
    """Computes the mean squared difference of the correlation matrices of a batch, over its B x B entries.

    The correlation of two samples is the Gaussian kernel `exp(-gamma ‖x - y‖²)` of their features of length
    1, as its Taylor polynomial in `c = x . y`: `exp(-2 gamma) sum_{p=0..order} (2 gamma)^p / p! c^p`. Scaling
    or rotating an embedding does not matter.

    The paper puts a linear layer of one width behind both embeddings, which this loss does not need. The CC
    of RepDistiller, products of the differences of adjacent samples, is another loss.

    Peng et al.: Correlation Congruence for Knowledge Distillation, ICCV 2019, arXiv:1904.01802, Section 3.3
    (Taylor form of the Gaussian RBF) and the loss `‖psi(F_T) - psi(F_S)‖² / n²` of Section 3.2.

    Args:
        student: Features `(B, ...)`, flattened from dimension 1.
        teacher: Features `(B, ...)` of any width; no gradient flows into them.
        gamma: Width of the kernel, above 0.
        order: Highest power of the polynomial, at least 1.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the batch sizes differ, a sample is one number, gamma is not above 0 or order is below
            1.

    Example:
        >>> import torch
        >>> cc_loss(torch.eye(2), torch.ones(2, 3)).item()  # (exp(-.8) (.8 + .32))² / 2
        0.1266...
    """
    expect(gamma=gamma, gt=0)
    expect(order=order, ge=1)
    ours, theirs = (_correlations(x.flatten(1), gamma, order) for x in prepare(student, teacher))
    return F.mse_loss(ours, theirs)


class CorrelationCongruence(PairwiseTerm):
    """Correlations between samples, `cc_loss`; layers are averaged. The usual layer is the embedding.

    Args:
        gamma: Width of the Gaussian kernel, above 0. Default 0.4.
        order: Highest power of its Taylor polynomial, at least 1. Default 2.
        weight: Factor of the loss. Public code has from 0.02 to 100; look at the logs.
        student_layer: Layer, or layers, of the student.
        teacher_layer: Their counterparts in the teacher, of any width.

    Example:
        >>> import torch
        >>> CorrelationCongruence()(torch.eye(3), 2 * torch.eye(3))
        tensor(0.)
    """

    relates_samples = True
    least_samples = 2

    def __init__(
        self,
        gamma: float = 0.4,
        order: int = 2,
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        expect(gamma=gamma, gt=0)
        self.gamma = gamma
        expect(order=order, ge=1)
        self.order = order

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes `cc_loss` of one layer."""
        return cc_loss(student, teacher, self.gamma, self.order)


def _correlations(features: Tensor, gamma: float, order: int) -> Tensor:
    cosine = cosines(features)
    polynomial = torch.stack([(2 * gamma) ** p / math.factorial(p) * cosine**p for p in range(order + 1)])
    return math.exp(-2 * gamma) * polynomial.sum(0)
