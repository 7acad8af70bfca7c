"""Distillation of class scores: KD, logit matching and decoupled KD."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkd.losses.inputs import Tapped, check_positive, mean_over_levels, prepare
from lkd.losses.term import Term


def kd_loss(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """Compute `T² KL(softmax(teacher / T) ‖ softmax(student / T))`, summed over classes, mean over the batch.

    The factor T² keeps the size of the gradient when T changes: `T (p_S - p_T)` a sample, which tends to
    `(student - teacher) / C` for large T and centred logits.

    Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531, Equations 2
    to 4 (its gradient and the limit, there of the soft cross-entropy, without T²).

    Args:
        student: Logits `(B, C)`.
        teacher: Logits `(B, C)`; no gradient flows into them.
        temperature: T, above 0.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the shapes do not match or the temperature is not above 0.

    Example:
        >>> kd_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]]), temperature=1.0)
        tensor(1.5232)
    """
    check_positive("temperature", temperature)
    student, teacher = _logits(student, teacher)
    return (
        _kl(F.log_softmax(student / temperature, 1), F.log_softmax(teacher / temperature, 1)) * temperature**2
    )


def logit_matching_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute `‖student - teacher‖² / (2C)`, mean over the batch.

    For logits centred over the classes it is the exact limit of `kd_loss` at high temperature, so both share
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
        >>> logit_matching_loss(torch.tensor([[1.0, -1.0]]), torch.tensor([[-1.0, 1.0]]))
        tensor(2.)
    """
    student, teacher = _logits(student, teacher)
    return F.mse_loss(student, teacher) / 2


def dkd_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """Compute decoupled KD, `T² (alpha TCKD + beta NCKD)`, mean over the batch.

    TCKD is the KL of the pair (p_y, 1 - p_y), NCKD the KL of the softmax over the other classes, both at
    temperature T. With alpha = 1 and beta = 1 - p_y of the teacher, sample by sample, it would be `kd_loss`.

    Zhao et al.: Decoupled Knowledge Distillation, CVPR 2022, arXiv:2203.08679, Equation 7.

    Args:
        student: Logits `(B, C)`, at least two classes.
        teacher: Logits `(B, C)`; no gradient flows into them.
        labels: True classes `(B,)`, int64.
        temperature: T, above 0.
        alpha: Weight of the target-class part.
        beta: Weight of the part over the other classes.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the shapes do not match, there is one class only, or the temperature is not above 0.

    Example:
        >>> student, teacher = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[3.0, 1.0, 0.0]])
        >>> dkd_loss(student, teacher, torch.tensor([0]))
        tensor(4.1034)
    """
    check_positive("temperature", temperature)
    student, teacher = _logits(student, teacher)
    if student.shape[1] < 2:
        raise ValueError("dkd_loss needs at least 2 classes, got 1: use a loss on sigmoids")
    if labels.shape != student.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"labels must be integers of shape ({len(student)},), got {labels.dtype} {tuple(labels.shape)}"
        )
    (pair_s, others_s), (pair_t, others_t) = (
        _decouple(logits / temperature, labels) for logits in (student, teacher)
    )
    return (alpha * _kl(pair_s, pair_t) + beta * _kl(others_s, others_t)) * temperature**2


class KD(Term):
    """Classic distillation of logits, `kd_loss`; several layers are averaged.

    Args:
        temperature: T, above 0.
        weight: Factor of the loss.
        student_layer: Layer that gives the student's logits `(B, C)`.
        teacher_layer: Layer that gives the teacher's.

    Example:
        >>> KD()(torch.zeros(2, 5), torch.zeros(2, 5))
        tensor(0.)
    """

    def __init__(
        self,
        temperature: float = 4.0,
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        self.temperature = check_positive("temperature", temperature)

    def forward(
        self, student: Tapped, teacher: Tapped, labels: Tensor | None = None, adapter: nn.Module | None = None
    ) -> Tensor:
        """Compute the mean of `kd_loss` over the layers."""
        return mean_over_levels(lambda s, t: kd_loss(s, t, self.temperature), student, teacher)


class LogitMatching(Term):
    """Regression of raw logits, `logit_matching_loss`; several layers are averaged.

    Example:
        >>> LogitMatching()(torch.ones(2, 5), torch.zeros(2, 5))
        tensor(0.5000)
    """

    def forward(
        self, student: Tapped, teacher: Tapped, labels: Tensor | None = None, adapter: nn.Module | None = None
    ) -> Tensor:
        """Compute the mean of `logit_matching_loss` over the layers."""
        return mean_over_levels(logit_matching_loss, student, teacher)


class DKD(Term):
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
        self.temperature = check_positive("temperature", temperature)
        self.alpha = alpha
        self.beta = beta

    def forward(
        self, student: Tapped, teacher: Tapped, labels: Tensor | None = None, adapter: nn.Module | None = None
    ) -> Tensor:
        """Compute the mean of `dkd_loss` over the layers; raise ValueError without labels."""
        if labels is None:
            raise ValueError("DKD needs labels, got none: use KD where batches have no labels")

        def loss(ours: Tensor, theirs: Tensor) -> Tensor:
            return dkd_loss(ours, theirs, labels, self.temperature, self.alpha, self.beta)

        return mean_over_levels(loss, student, teacher)


def _logits(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    student, teacher = prepare(student, teacher)
    if student.dim() != 2 or teacher.dim() != 2:
        raise ValueError(
            f"logits must have the shape (B, C), got {tuple(student.shape)} of the student and "
            f"{tuple(teacher.shape)} of the teacher"
        )
    if student.shape != teacher.shape:
        raise ValueError(
            f"student has {student.shape[1]} classes, teacher {teacher.shape[1]}: "
            "distilling logits needs the same classes in the same order"
        )
    return student, teacher


def _kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Return KL(teacher ‖ student) of log-probabilities `(B, C)`, summed over C, mean over B."""
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def _decouple(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Split into log (p_y, 1 - p_y) `(B, 2)` and the log-softmax of the other classes `(B, C - 1)`."""
    index = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = logits.gather(1, index + (index >= labels[:, None]))  # skips y; no sum of tiny probabilities
    pair = torch.cat([logits.gather(1, labels[:, None]), others.logsumexp(1, keepdim=True)], 1)
    return F.log_softmax(pair, 1), F.log_softmax(others, 1)
