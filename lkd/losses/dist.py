"""DIST: distillation of class scores by correlation instead of an exact match."""

from torch import Tensor

from lkd.checks import expect
from lkd.losses.pairwise import PairwiseTerm
from lkd.losses.scores import prepare_classes

EPS = 1e-8


def dist_loss(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, beta: float = 1.0, gamma: float = 1.0
) -> Tensor:
    """Computes `T² (beta (1 - mean_rows rho(p_S, p_T)) + gamma (1 - mean_columns rho(p_S, p_T)))`.

    `p = softmax(z / T)` `(B, C)` and rho is Pearson's correlation: of the rows (inter-class, one for each
    sample, averaged over the batch) and of the columns (intra-class, one for each class, averaged over the
    classes). It is 0 for probabilities that are equal up to a scale and a shift.

    rho is `<a, b> / (|a| |b| + 1e-8)` of centered vectors, as in the authors' code: the constant weakens
    columns of classes that hardly vary in a batch. Such a column, and every column of a batch of one, counts
    as 1 and teaches nothing. A correlation of two numbers is 1 or -1: rows of two classes teach nothing
    either, nor do columns of two samples.

    Huang et al.: Knowledge Distillation from A Stronger Teacher, NeurIPS 2022, arXiv:2205.10536. The factor
    T² is that of the authors' code.

    Args:
        student: Logits `(B, C)`, at least two classes.
        teacher: Logits `(B, C)`; no gradient flows into them.
        temperature: T, above 0. Default 1, the authors' for ImageNet.
        beta: Weight of the rows. Default 1.
        gamma: Weight of the columns. Default 1.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the shapes do not match, there is one class only, or the temperature is not above 0.

    Example:
        >>> import torch
        >>> student = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])
        >>> dist_loss(student, torch.tensor([[1.0, 2.0, 0.0], [0.0, 4.0, 1.0]]))
        tensor(0.7502)
    """
    expect(temperature=temperature, gt=0)
    student, teacher = prepare_classes(student, teacher)
    p, q = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
    rows, columns = _correlations(p, q), _correlations(p.T, q.T)
    return (beta * (1 - rows.mean()) + gamma * (1 - columns.mean())) * temperature**2


class DIST(PairwiseTerm):
    """Distillation of a stronger teacher, `dist_loss`; several layers are averaged.

    Args:
        temperature: T, above 0.
        beta: Weight of the correlation over classes.
        gamma: Weight of the correlation over the samples of a batch.
        weight: Factor of the loss.
        student_layer: Layer that gives the student's logits `(B, C)`.
        teacher_layer: Layer that gives the teacher's.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])
        >>> DIST()(logits, logits).abs() < 1e-6
        tensor(True)
    """

    relates_samples = True
    of_softmax = True

    def __init__(
        self,
        temperature: float = 1.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        expect(temperature=temperature, gt=0)
        self.temperature = temperature
        self.least_samples = 1 if beta else 3
        self.beta = beta
        self.gamma = gamma

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes `dist_loss` of one layer."""
        return dist_loss(student, teacher, self.temperature, self.beta, self.gamma)


def _correlations(a: Tensor, b: Tensor) -> Tensor:
    """Returns Pearson's correlation of each pair of rows."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + EPS)
