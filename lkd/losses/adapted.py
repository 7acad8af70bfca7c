"""Terms that compare features through linear adapters."""

from torch import Tensor, nn

from lkd.losses.adapters import adapt, match_channels
from lkd.losses.inputs import Tapped
from lkd.losses.pairwise import PairwiseTerm


class AdaptedTerm(PairwiseTerm):
    """Base class of terms that bring the student's features to the teacher's width.

    Args:
        weight: Factor of the loss.
        student_layer: Layer, or layers, of the student.
        teacher_layer: Their counterparts in the teacher.
        seed: Seed of the adapters' initial weights.
    """

    bias: bool = True
    """Whether adapters have a bias, which some losses would ignore."""

    def __init__(
        self,
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
        seed: int = 0,
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        self.seed = seed

    def adapter(self, student: Tapped, teacher: Tapped) -> nn.ModuleList | None:
        """Builds 1x1 convolutions (maps) or linear layers (vectors, tokens) where the widths differ."""
        return match_channels(student, teacher, bias=self.bias, seed=self.seed)

    def forward(
        self, student: Tapped, teacher: Tapped, labels: Tensor | None = None, adapter: nn.Module | None = None
    ) -> Tensor:
        """Computes the mean of `loss` over the layers, the student's through the adapter."""
        return super().forward(adapt(student, adapter), teacher, labels)
