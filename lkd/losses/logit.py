"""Distillation of class scores: KD and logit matching."""

import torch.nn.functional as F
from torch import Tensor

from lkd.checks import expect
from lkd.losses.divergence import kl_divergence
from lkd.losses.pairwise import PairwiseTerm
from lkd.losses.scores import prepare_classes, prepare_logits


def kd_loss(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """Computes `T² KL(softmax(teacher / T) ‖ softmax(student / T))`, a sum over classes, batch mean.

    The factor T² keeps the size of the gradient when T changes: `T (p_S - p_T)` for each sample, which tends
    to `(student - teacher) / C` for large T and centered logits.

    Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531, Equations 2
    to 4 (its gradient and the limit, there of the soft cross-entropy, without T²).

    Args:
        student: Logits `(B, C)`, at least two classes; `sigmoid_kd_loss` takes one.
        teacher: Logits `(B, C)`; no gradient flows into them.
        temperature: T, above 0.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the shapes do not match, there is one class only, or the temperature is not above 0.

    Example:
        >>> import torch
        >>> kd_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]]), temperature=1.0)
        tensor(1.5232)
    """
    expect(temperature=temperature, gt=0)
    student, teacher = prepare_classes(student, teacher)
    log_p, log_q = F.log_softmax(student / temperature, 1), F.log_softmax(teacher / temperature, 1)
    return kl_divergence(log_p, log_q).mean() * temperature**2


def logit_matching_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Computes `‖student - teacher‖² / (2C)`, mean over the batch.

    For logits centered over the classes it is the exact limit of `kd_loss` at high temperature, so both share
    one weight. In general it exceeds that limit by half the squared mean of the logits' difference, which a
    softmax does not see: raw logits are matched, their common offset included.

    Hinton, Vinyals, Dean, 2015, arXiv:1503.02531, Equation 4; Ba and Caruana: Do Deep Nets Really Need to be
    Deep?, NeurIPS 2014, arXiv:1312.6184.

    Args:
        student: Logits `(B, C)`.
        teacher: Logits `(B, C)`; no gradient flows into them.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the shapes do not match.

    Example:
        >>> import torch
        >>> logit_matching_loss(torch.tensor([[1.0, -1.0]]), torch.tensor([[-1.0, 1.0]]))
        tensor(2.)
    """
    student, teacher = prepare_logits(student, teacher)
    return F.mse_loss(student, teacher) / 2


class KD(PairwiseTerm):
    """Classic distillation of logits, `kd_loss`; several layers are averaged.

    Args:
        temperature: T, above 0.
        weight: Factor of the loss.
        student_layer: Layer that gives the student's logits `(B, C)`.
        teacher_layer: Layer that gives the teacher's.

    Example:
        >>> import torch
        >>> KD()(torch.zeros(2, 5), torch.zeros(2, 5))
        tensor(0.)
    """

    of_softmax = True

    def __init__(
        self,
        temperature: float = 4.0,
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        expect(temperature=temperature, gt=0)
        self.temperature = temperature

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes `kd_loss` of one layer."""
        return kd_loss(student, teacher, self.temperature)


class LogitMatching(PairwiseTerm):
    """Regression of raw logits, `logit_matching_loss`; several layers are averaged.

    Example:
        >>> import torch
        >>> LogitMatching()(torch.ones(2, 5), torch.zeros(2, 5))
        tensor(0.5000)
    """

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes `logit_matching_loss` of one layer."""
        return logit_matching_loss(student, teacher)
