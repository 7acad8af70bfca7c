"""A weighted distillation loss, with the layers that it compares."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class Term(nn.Module):
    """Base class of the terms that are added to a student's loss.

    A subclass implements `forward`, and `adapter` if student and teacher may differ in width. It holds no
    parameters: whatever attaches the term calls `adapter` for them once, with example tensors, and owns them.

    A layer is named by `""`, the output of the model itself; by `"a.b"`, a submodule; by `"a.b:key"` or
    `"a.b:0"`, an entry of its dict, tuple or list; or by a list of such names, several layers (stages).
    `"a.b@NHWC"` says where the channels are, if lkd cannot see it (see `lkd.addresses.parse`). One name is
    one tensor.

    Args:
        weight: Factor that the attaching mechanism multiplies the loss by, 0 or more.
        student_layer: Layer, or layers, of the student to compare.
        teacher_layer: Their counterparts in the teacher.

    Raises:
        ValueError: If the weight is negative.

    Example:
        >>> class Difference(Term):
        ...     def forward(self, student, teacher, labels=None, adapter=None):
        ...         return (student - teacher).abs().mean()
        >>> term = Difference(weight=2.0, student_layer="body.3", teacher_layer="body.7")
        >>> term.weight, term.student_layer, term.teacher_layer, term.needs_labels
        (2.0, 'body.3', 'body.7', False)
    """

    needs_labels: bool = False
    relates_samples: bool = False
    """Whether the loss compares samples of a batch with each other, so that it is no mean over samples."""
    least_samples: int = 1
    """The smallest batch that gives the loss a gradient."""
    raw: bool = False
    """Whether the loss takes a layer's output as it is, a dict or a tuple, and not a tensor for each name."""
    of_softmax: bool = False
    """Whether it takes a softmax of its inputs, which must then not be probabilities already."""
    of_sigmoids: bool = False
    """Whether it takes each logit as a probability of its own, so that no softmax over them may come before it."""
    rest: Sequence[str] = ()
    """Parts of the frozen teacher that the loss runs by itself, as `lkd.teachers.Teacher.part` reads them. Where
    there are some, `forward` is given them as `rest`, a list of functions through which gradients flow."""

    def __init__(
        self, weight: float = 1.0, student_layer: str | list[str] = "", teacher_layer: str | list[str] = ""
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"weight={weight} of {type(self).__name__} must be 0 or more.")
        self.weight = weight
        self.student_layer = student_layer
        self.teacher_layer = teacher_layer

    def adapter(self, student: Any, teacher: Any) -> nn.Module | None:
        """Builds the trainable map this term needs between student and teacher.

        Args:
            student: Example of the outputs of the student's layers: a tensor or a list of tensors.
            teacher: Example of the outputs of the teacher's layers.

        Returns:
            The module to train along with the student, or None if none is needed.
        """
        return None

    def forward(
        self, student: Any, teacher: Any, labels: Tensor | None = None, adapter: nn.Module | None = None
    ) -> Tensor:
        """Computes the loss, not yet multiplied by `weight`.

        Args:
            student: Outputs of the student's layers: a tensor, a list of tensors, or raw detector outputs.
            teacher: Outputs of the teacher's layers on the same inputs.
            labels: Class labels `(B,)`; only terms with `needs_labels` read them.
            adapter: Result of `adapter`.

        Returns:
            The loss, a scalar.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement forward")
