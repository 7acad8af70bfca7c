"""Decoupled distillation of class scores: the true class apart from the others."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lkd.checks import expect
from lkd.losses.divergence import kl_divergence
from lkd.losses.pairwise import PairwiseTerm
from lkd.losses.scores import mean_of, prepare_classes, split_ignored


def dkd_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """Computes decoupled KD, `T² (alpha TCKD + beta NCKD)`, mean over the batch.

    TCKD is the KL of the pair (p_y, 1 - p_y), NCKD the KL of the softmax over the other classes (0 for the
    one other of two), both at temperature T. With alpha = 1 and beta = 1 - p_y of the teacher, sample by
    sample, it would be `kd_loss`.

    Zhao et al.: Decoupled Knowledge Distillation, CVPR 2022, arXiv:2203.08679, Equation 7.

    Args:
        student: Logits `(B, C)`, at least two classes.
        teacher: Logits `(B, C)`; no gradient flows into them.
        labels: True classes `(B,)`, int64; samples with -100 are left out, as cross-entropy does.
        temperature: T, above 0.
        alpha: Weight of the target-class part.
        beta: Weight of the part over the other classes.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the shapes do not match, there is one class only, a label is no class, or the
            temperature is not above 0.

    Example:
        >>> student, teacher = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[3.0, 1.0, 0.0]])
        >>> dkd_loss(student, teacher, torch.tensor([0]))
        tensor(4.1034)
    """
    expect(temperature=temperature, gt=0)
    student, teacher = prepare_classes(student, teacher)
    labels, counts = split_ignored(labels, *student.shape)
    (pair_s, others_s), (pair_t, others_t) = (
        split_target(logits / temperature, labels) for logits in (student, teacher)
    )
    target, others = kl_divergence(pair_s, pair_t), kl_divergence(others_s, others_t)
    return mean_of(alpha * target + beta * others, counts) * temperature**2


class DKD(PairwiseTerm):
    """Decoupled distillation of logits, `dkd_loss`, which reads labels; several layers are averaged.

    Args:
        temperature: T, above 0.
        alpha: Weight of the target-class part.
        beta: Weight of the part over the other classes.
        weight: Factor of the loss.
        student_layer: Layer that gives the student's logits `(B, C)`.
        teacher_layer: Layer that gives the teacher's.

    Example:
        >>> DKD()(torch.zeros(2, 5), torch.zeros(2, 5), labels=torch.tensor([0, 4]))
        tensor(0.)
    """

    needs_labels = True
    of_softmax = True

    def __init__(
        self,
        temperature: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        expect(temperature=temperature, gt=0)
        self.temperature = temperature
        self.alpha = alpha
        self.beta = beta

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes `dkd_loss` of one layer.

        Raises ValueError without labels, or where nothing is left of it.
        """
        if labels is None:
            raise ValueError("DKD needs labels, got none: use KD where batches have no labels")
        if self.weight and not self.alpha and student.shape[-1] == 2:
            raise ValueError(
                "DKD with alpha=0, as in FedNTD, distills the classes that are not the true one, and of 2 classes that is one, "
                "which gives no gradient"
            )
        return dkd_loss(student, teacher, labels, self.temperature, self.alpha, self.beta)


def split_target(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Splits into log (p_y, 1 - p_y) `(B, 2)` and the log-softmax of the other classes `(B, C - 1)`.

    Example:
        >>> pair, others = split_target(torch.zeros(1, 4), torch.tensor([2]))
        >>> pair.exp(), others.exp()
        (tensor([[0.2500, 0.7500]]), tensor([[0.3333, 0.3333, 0.3333]]))
    """
    index = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = logits.gather(1, index + (index >= labels[:, None]))  # skips y; no sum of tiny probabilities
    pair = torch.cat([logits.gather(1, labels[:, None]), others.logsumexp(1, keepdim=True)], 1)
    return F.log_softmax(pair, 1), F.log_softmax(others, 1)
