"""Consistency of two models' probabilities, the loss of the mean teacher."""

from torch import Tensor

from lkd.losses.pairwise import PairwiseTerm
from lkd.losses.scores import prepare_classes


def consistency_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Computes `‖softmax(student) - softmax(teacher)‖²`, summed over the classes, mean over the batch.

    Bounded by 2, so that a teacher that is wrong early does no great harm. Tarvainen and Valpola: Mean
    teachers are better role models, NeurIPS 2017, arXiv:1703.01780, Section 2. The authors' code divides by
    the number of classes: their weight of 100 with ten classes is 10 here.

    Args:
        student: Logits `(B, C)`, at least two classes.
        teacher: Logits `(B, C)`; no gradient flows into them.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the shapes do not match, or there is one class only.

    Example:
        >>> import torch
        >>> consistency_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[100.0, 0.0]]))
        tensor(0.5000)
    """
    student, teacher = prepare_classes(student, teacher)
    return (student.softmax(1) - teacher.softmax(1)).square().sum(1).mean()


class Consistency(PairwiseTerm):
    """Squared difference of probabilities, `consistency_loss`; several layers are averaged.

    Args:
        weight: Factor of the loss.
        student_layer: Layer that gives the student's logits `(B, C)`.
        teacher_layer: Layer that gives the teacher's.

    Example:
        >>> import torch
        >>> Consistency()(torch.zeros(2, 5), torch.ones(2, 5))
        tensor(0.)
    """

    of_softmax = True

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes `consistency_loss` of one layer."""
        return consistency_loss(student, teacher)
