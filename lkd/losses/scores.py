"""Preparation of the inputs of losses on class scores: logits of one teacher or of several, and labels."""

import torch
from torch import Tensor

from lkd.looks import can_look, later
from lkd.losses.inputs import prepare


def prepare_logits(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Prepares logits over the same classes, as `prepare` does.

    Args:
        student: Logits `(B, C)`.
        teacher: Logits `(B, C)`.

    Returns:
        Both in float32 at least, the teacher's without a graph.

    Raises:
        ValueError: If one is not `(B, C)`, or the batch sizes or class counts differ.

    Example:
        >>> import torch
        >>> prepare_logits(torch.zeros(2, 3), torch.zeros(2, 4))
        Traceback (most recent call last):
        ...
        ValueError: student has 3 classes, teacher 4: distilling logits needs the same classes in the same order
    """
    if isinstance(student, Tensor) and student.dim() == 1:
        raise ValueError(
            f"logits must have the shape (B, C), got {tuple(student.shape)} of the student: give SigmoidKD for one logit"
        )
    student, teacher = prepare(student, teacher)
    if student.dim() != 2 or teacher.dim() != 2:
        several = student.dim() == 2 and teacher.dim() == 3
        raise ValueError(
            f"logits must have the shape (B, C), got {tuple(student.shape)} of the student and "
            f"{tuple(teacher.shape)} of the teacher"
            + (
                ": where that is several teachers' (B, K, C), wrap the term in MultiTeacher"
                if several
                else ": give PixelKD for maps (B, C, H, W), SigmoidKD for one logit (B,), and a Term of your own for tokens (B, T, C), which flattens them"
            )
        )
    if student.shape != teacher.shape:
        raise ValueError(
            f"student has {student.shape[1]} classes, teacher {teacher.shape[1]}: "
            "distilling logits needs the same classes in the same order"
        )
    return student, teacher


def prepare_classes(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Prepares logits that go through a softmax, as `prepare_logits` does.

    Args:
        student: Logits `(B, C)`, at least two classes.
        teacher: Logits `(B, C)`.

    Returns:
        Both in float32 at least, the teacher's without a graph.

    Raises:
        ValueError: If a shape is wrong, or there is one class only.

    Example:
        >>> import torch
        >>> prepare_classes(torch.zeros(2, 1), torch.zeros(2, 1))
        Traceback (most recent call last):
        ...
        ValueError: a softmax over 1 class is always 1 and can teach nothing: give at least 2 classes, or SigmoidKD for one logit
    """
    student, teacher = prepare_logits(student, teacher)
    require_classes(student)
    return student, teacher


def require_classes(logits: Tensor, dim: int = 1) -> None:
    """Checks that logits have several classes, as the softmax of one is constant.

    Raises ValueError otherwise.

    Example:
        >>> import torch
        >>> require_classes(torch.zeros(2, 2))
    """
    if logits.shape[dim] < 2:
        raise ValueError(
            f"a softmax over {logits.shape[dim]} class is always 1 and can teach nothing: give at least 2 classes, or SigmoidKD "
            "for one logit"
        )


def prepare_teachers(student: Tensor, teachers: Tensor) -> tuple[Tensor, Tensor]:
    """Prepares a student's logits and those of several teachers, as `prepare` does.

    Args:
        student: Logits `(B, C)`.
        teachers: Logits `(B, K, C)` of K teachers.

    Returns:
        Both in float32 at least, the teachers' without a graph.

    Raises:
        ValueError: If a shape is wrong, or the batch sizes or class counts differ.

    Example:
        >>> import torch
        >>> prepare_teachers(torch.zeros(2, 3), torch.zeros(2, 3))
        Traceback (most recent call last):
        ...
        ValueError: several teachers' logits must have the shape (B, K, C), got (2, 3): make them one by lkd.teachers.Ensemble
    """
    student, teachers = prepare(student, teachers)
    if teachers.dim() != 3:
        raise ValueError(
            f"several teachers' logits must have the shape (B, K, C), got {tuple(teachers.shape)}: make them one "
            "by lkd.teachers.Ensemble"
        )
    prepare_logits(student, teachers[:, 0])
    return student, teachers


IGNORED = -100
"""The label of samples that cross-entropy leaves out, and so do the losses here."""


def split_ignored(labels: Tensor, size: int, classes: int) -> tuple[Tensor, Tensor]:
    """Checks labels, and returns which samples count.

    Args:
        labels: Classes `(B,)`, or `IGNORED`.
        size: Batch size B.
        classes: Number of classes.

    Returns:
        Labels `(B,)` that are classes everywhere, and bools `(B,)` whether a sample counts.

    Raises:
        ValueError: If they are no integers, not one for each sample, or no classes.

    Example:
        >>> split_ignored(torch.tensor([2, -100]), 2, 3)
        (tensor([2, 0]), tensor([ True, False]))
    """
    check_labels(labels, size)
    counts = labels != IGNORED
    labels = torch.where(counts, labels, 0).long()

    def refuse(ends: list[float]) -> None:
        low, high = map(int, ends)
        if low < 0 or high >= classes:
            raise ValueError(
                f"labels must be classes from 0 to {classes - 1}, as there are {classes} logits, or {IGNORED} for samples to leave out, "
                f"got {low} to {high}"
            )

    if len(labels) and can_look(labels):  # inside of vmap no value of a sample can be read
        later(labels.aminmax(), refuse)
    return labels, counts


def mean_of(losses: Tensor, counts: Tensor) -> Tensor:
    """Returns the mean over the samples that count; 0 where none does.

    Example:
        >>> mean_of(torch.tensor([1.0, 5.0]), torch.tensor([True, False]))
        tensor(1.)
    """
    return torch.where(counts, losses, 0.0).sum() / counts.sum().clamp_min(1)


def check_labels(labels: Tensor, size: int) -> None:
    """Checks that `labels` are integers, one for each sample of the batch; raises ValueError otherwise.

    Example:
        >>> import torch
        >>> check_labels(torch.zeros(3), 3)
        Traceback (most recent call last):
        ...
        ValueError: labels must be integers of shape (3,), got torch.float32 (3,)
    """
    if labels.shape != (size,) or labels.is_floating_point():
        raise ValueError(
            f"labels must be integers of shape ({size},), got {labels.dtype} {tuple(labels.shape)}"
        )
