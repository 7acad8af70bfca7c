"""NKD: the true class at its own probability, and the other classes normalized without it."""

import torch.nn.functional as F
from torch import Tensor

from lkd.checks import expect
from lkd.losses.divergence import soft_cross_entropy
from lkd.losses.dkd import split_target
from lkd.losses.pairwise import PairwiseTerm
from lkd.losses.scores import mean_of, prepare_classes, split_ignored


def nkd_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 1.0, gamma: float = 1.5
) -> Tensor:
    """Computes `-p_T[y] log p_S[y] - gamma T² sum_{i != y} N(p_T)_i log N(p_S)_i`, mean over the batch.

    N is the softmax at temperature T over the classes other than y; the sum runs over these. The first part
    is not softened by T. Neither part is zero for equal logits: the first goes on to raise the true class,
    the second ends at the entropy of the teacher's N.

    Yang et al.: From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with
    Normalized Loss and Customized Soft Labels, ICCV 2023, arXiv:2303.13005. Which part is softened, and the
    factor T², are those of the authors' code.

    Args:
        student: Logits `(B, C)`, at least two classes.
        teacher: Logits `(B, C)`; no gradient flows into them.
        labels: True classes `(B,)`, int64; samples with -100 are left out, as cross-entropy does.
        temperature: T of the second part, above 0. Default 1.
        gamma: Weight of the second part. Default 1.5.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the shapes do not match, there is one class only, a label is no class, or the
            temperature is not above 0.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[3.0, 1.0, 0.0]])
        >>> nkd_loss(student, teacher, torch.tensor([0]))
        tensor(1.9104)
    """
    expect(temperature=temperature, gt=0)
    student, teacher = prepare_classes(student, teacher)
    labels, counts = split_ignored(labels, *student.shape)
    target = -teacher.softmax(1).gather(1, labels[:, None]) * F.log_softmax(student, 1).gather(
        1, labels[:, None]
    )
    _, others_s = split_target(student / temperature, labels)
    _, others_t = split_target(teacher / temperature, labels)
    return mean_of(target[:, 0] + gamma * temperature**2 * soft_cross_entropy(others_s, others_t), counts)


class NKD(PairwiseTerm):
    """Normalized distillation of logits, `nkd_loss`, which reads labels; several layers are averaged.

    Args:
        temperature: T of the part over the other classes, above 0.
        gamma: Weight of that part.
        weight: Factor of the loss.
        student_layer: Layer that gives the student's logits `(B, C)`.
        teacher_layer: Layer that gives the teacher's.

    Example:
        >>> import torch
        >>> NKD()(torch.zeros(1, 2), torch.zeros(1, 2), labels=torch.tensor([1]))  # log(2) / 2
        tensor(0.3466)
    """

    needs_labels = True
    of_softmax = True

    def __init__(
        self,
        temperature: float = 1.0,
        gamma: float = 1.5,
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        expect(temperature=temperature, gt=0)
        self.temperature = temperature
        self.gamma = gamma

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes `nkd_loss` of one layer; raises ValueError without labels."""
        if labels is None:
            raise ValueError("NKD needs labels, got none: use KD where batches have no labels")
        return nkd_loss(student, teacher, labels, self.temperature, self.gamma)
