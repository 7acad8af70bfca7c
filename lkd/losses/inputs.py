"""Preparation that every loss applies to its inputs before it compares them."""

from collections.abc import Callable

import torch
from torch import Tensor

Tapped = Tensor | list[Tensor]
"""One tapped tensor, or one tensor for each of several layers."""


def prepare(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Raises both to float32 (or float64 if one is), cuts the teacher's graph and compares batch sizes.

    Softmax, KL and norms lose their small differences in half precision, so every loss is computed in
    float32 even where mixed precision produced its inputs; the gradient returns in the input's own type.

    Args:
        student: What the student computed, any shape `(B, ...)`.
        teacher: What the teacher computed on the same inputs, `(B, ...)`.

    Returns:
        The student's tensor with its graph, and the teacher's without one.

    Raises:
        TypeError: If one of them is no tensor.
        ValueError: If the batch sizes differ or there is no batch dimension.

    Example:
        >>> s, t = prepare(torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(2, 3, requires_grad=True))
        >>> s.dtype, t.requires_grad
        (torch.float32, False)
    """
    for name, value in (("student", student), ("teacher", teacher)):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"a loss compares tensors, but the {name} gave a {type(value).__name__}: "
                "name the entry to take, as in 'layer:key'"
            )
        if value.dim() < 2:
            raise ValueError(
                f"the {name}'s tensor must have a batch and a feature dimension, got {value.shape}"
            )
    if len(student) != len(teacher):
        raise ValueError(
            f"the student's batch has {len(student)} samples, the teacher's {len(teacher)}: "
            "both must see the same inputs"
        )
    kept = torch.float64 if torch.float64 in (student.dtype, teacher.dtype) else torch.float32
    return student.to(kept), teacher.detach().to(kept)


def full_precision(value: Tensor) -> Tensor:
    """Returns `value` in float32, or as it is in float64.

    Raises:
        TypeError: If it is no tensor.

    Example:
        >>> full_precision(torch.zeros(1, dtype=torch.float16)).dtype
        torch.float32
    """
    if not isinstance(value, Tensor):
        raise TypeError(
            f"a loss compares tensors, but was given a {type(value).__name__}: name the entry to take, as in 'layer:key'"
        )
    return value if value.dtype == torch.float64 else value.float()


def levels(value: Tapped) -> list[Tensor]:
    """Returns the tapped tensors as a list, one entry for each layer.

    Example:
        >>> len(levels(torch.zeros(1, 2)))
        1
    """
    return list(value) if isinstance(value, list | tuple) else [value]


def level_pairs(student: Tapped, teacher: Tapped) -> list[tuple[Tensor, Tensor]]:
    """Returns the pairs of layers, or raises ValueError if the numbers of layers differ or are zero.

    Example:
        >>> len(level_pairs(torch.zeros(1, 2), torch.zeros(1, 3)))
        1
    """
    ours, theirs = levels(student), levels(teacher)
    if len(ours) != len(theirs) or not ours:
        raise ValueError(
            f"the student has {len(ours)} layers to compare, the teacher {len(theirs)}: "
            "student_layer and teacher_layer must name equally many, at least one"
        )
    return list(zip(ours, theirs, strict=True))


def mean_over_levels(loss: Callable[[Tensor, Tensor], Tensor], student: Tapped, teacher: Tapped) -> Tensor:
    """Averages `loss` over pairs of layers.

    Args:
        loss: Function of a student's and a teacher's tensor that returns a scalar.
        student: A tensor, or a list with one tensor for each layer.
        teacher: The teacher's counterpart, as many layers.

    Returns:
        The mean loss, a scalar.

    Raises:
        ValueError: If the numbers of layers differ or are zero.

    Example:
        >>> mean_over_levels(lambda s, t: (s - t).sum(), [torch.ones(1, 1), torch.ones(1, 3)],
        ...                  [torch.zeros(1, 1), torch.zeros(1, 3)])
        tensor(2.)
    """
    values = [loss(s, t) for s, t in level_pairs(student, teacher)]
    return values[0] if len(values) == 1 and not values[0].dim() else torch.stack(values).mean()
