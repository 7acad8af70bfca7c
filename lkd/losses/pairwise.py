"""Terms whose loss compares one layer of the student with its counterpart in the teacher."""

from torch import Tensor, nn

from lkd.losses.inputs import Tapped, mean_over_levels
from lkd.losses.maps import with_positions
from lkd.losses.term import Term


class PairwiseTerm(Term):
    """Base class of terms that are the mean, over pairs of layers, of a function of two tensors.

    A subclass implements `loss`, and `__init__` where the function has options.

    Args:
        weight: Factor of the loss.
        student_layer: Layer, or layers, of the student.
        teacher_layer: Their counterparts in the teacher.

    Example:
        >>> import torch
        >>> class Difference(PairwiseTerm):
        ...     def loss(self, student, teacher, labels):
        ...         return (student - teacher).abs().mean()
        >>> Difference()([torch.ones(2, 3), torch.zeros(2, 5)], [torch.zeros(2, 3), torch.zeros(2, 5)])
        tensor(0.5000)
    """

    compares_positions: bool = False
    """Whether the loss compares places on a map, so that maps of one position are left out with a warning."""

    def forward(
        self, student: Tapped, teacher: Tapped, labels: Tensor | None = None, adapter: nn.Module | None = None
    ) -> Tensor:
        """Computes the mean of `loss` over the layers."""
        if self.compares_positions:
            student, teacher = with_positions(student, teacher, type(self).__name__)
        return mean_over_levels(lambda s, t: self.loss(s, t, labels), student, teacher)

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes the loss of one pair of layers.

        Args:
            student: Output of the student's layer.
            teacher: Output of the teacher's layer.
            labels: Class labels `(B,)`, where the batch has some.

        Returns:
            The loss, a scalar.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement loss")
