"""Distillation of sigmoids: one logit (two classes), or several labels that do not exclude each other."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lkd.checks import expect
from lkd.losses.divergence import kl_divergence
from lkd.losses.inputs import prepare
from lkd.losses.pairwise import PairwiseTerm


def sigmoid_kd_loss(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """Computes `T² sum_c KL(Bernoulli(sigmoid(t_c / T)) ‖ Bernoulli(sigmoid(s_c / T)))`, mean over the rest.

    The teacher's sigmoids are soft targets of a binary cross-entropy, minus its minimum: the gradient is `T
    (sigmoid(s / T) - sigmoid(t / T))` for each sample, and 0 where both agree. For one logit z it is
    `kd_loss` on the two logits (z, 0), whose softmax is (sigmoid(z), 1 - sigmoid(z)).

    Hinton, Vinyals, Dean, 2015, arXiv:1503.02531, for two classes; over several labels the sum of Yang et
    al.: Multi-Label Knowledge Distillation, ICCV 2023, arXiv:2308.06453 (there its first part, without T).

    Args:
        student: Logits `(B,)` or `(B, 1)` of two classes, `(B, C)` of C labels, or maps `(B, C, ...)` of
            them.
        teacher: Logits of the teacher, of the same shape; no gradient flows into them.
        temperature: T, above 0.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the shapes do not match or the temperature is not above 0.

    Example:
        >>> sigmoid_kd_loss(torch.tensor([2.0]), torch.tensor([-2.0]), temperature=1.0)
        tensor(1.5232)
    """
    expect(temperature=temperature, gt=0)
    student, teacher = prepare(_columns(student), _columns(teacher))
    if student.shape != teacher.shape:
        raise ValueError(
            f"the student's logits are {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}: distilling sigmoids needs "
            "the same labels in the same order"
        )
    log_p, log_q = (_log_p(logits / temperature) for logits in (student, teacher))
    return kl_divergence(log_p, log_q).sum(1).mean() * temperature**2


class SigmoidKD(PairwiseTerm):
    """Distillation of sigmoids, `sigmoid_kd_loss`, for a single logit or several labels.

    Several layers are averaged.

    Args:
        temperature: T, above 0.
        weight: Factor of the loss.
        student_layer: Layer that gives the student's logits `(B,)`, `(B, C)` or `(B, C, ...)`.
        teacher_layer: Layer that gives the teacher's.

    Example:
        >>> SigmoidKD()(torch.zeros(2, 1), torch.zeros(2))
        tensor(0.)
    """

    of_sigmoids = True

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
        """Computes `sigmoid_kd_loss` of one layer."""
        return sigmoid_kd_loss(student, teacher, self.temperature)


def _columns(logits: Tensor) -> Tensor:
    return logits[:, None] if isinstance(logits, Tensor) and logits.dim() == 1 else logits


def _log_p(logits: Tensor) -> Tensor:
    """Returns logarithms of p and 1 - p, in a last dimension of their own."""
    return torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)], -1)
