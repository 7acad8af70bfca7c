"""Distillation of relations between the samples of a batch: RKD and similarity preservation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkd.losses.inputs import Tapped, mean_over_levels, prepare
from lkd.losses.pairwise import PairwiseTerm
from lkd.losses.term import Term
from lkd.losses.unit import gram, unit


def rkd_distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compares the pairwise distances in a batch, each divided by the mean over all pairs of samples.

    Smooth L1, mean over the B x B entries. Rotating, shifting or uniformly scaling an embedding does not
    matter. Identical samples have distance 0 and no gradient; a batch of 1 or 2 gives 0.

    Park et al.: Relational Knowledge Distillation, CVPR 2019, arXiv:1904.05068, Section 3.2.1.

    Args:
        student: Features `(B, ...)`, flattened from dimension 1.
        teacher: Features `(B, ...)` of any width; no gradient flows into them.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the batch sizes differ.

    Example:
        >>> points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> rkd_distance_loss(points, 3 * points + 1).item() < 1e-12
        True
    """
    ours, theirs = (_distances(x.flatten(1)) for x in prepare(student, teacher))
    return F.smooth_l1_loss(ours, theirs)


def rkd_angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compares the cosines of the angles that all triplets of a batch span.

    Smooth L1, mean over the B x B x B entries, those with repeated samples included as in the authors' code.
    Differences shorter than 1e-6 have no direction: they count as cosine 0 and carry no gradient. Memory
    grows as `B² D + B³` for D features in a sample: pool large maps first.

    Park et al.: Relational Knowledge Distillation, CVPR 2019, arXiv:1904.05068, Section 3.2.2.

    Args:
        student: Features `(B, ...)`, flattened from dimension 1.
        teacher: Features `(B, ...)` of any width; no gradient flows into them.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the batch sizes differ.

    Example:
        >>> points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> rkd_angle_loss(points, 3 * points + 1).item() < 1e-12
        True
    """
    ours, theirs = (_cosines(x.flatten(1)) for x in prepare(student, teacher))
    return F.smooth_l1_loss(ours, theirs)


def sp_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Computes `‖G_S - G_T‖² / B²` of the row-normalized Gram matrices of a batch.

    Row i of G says how similar sample i is to every sample. Rotating or scaling all features does not matter.
    A sample whose features are all zero has a row of zeros and no gradient.

    Tung and Mori: Similarity-Preserving Knowledge Distillation, ICCV 2019, arXiv:1907.09682, Section 3.

    Args:
        student: Features `(B, ...)`, flattened from dimension 1.
        teacher: Features `(B, ...)` of any width; no gradient flows into them.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the batch sizes differ.

    Example:
        >>> sp_loss(torch.eye(2), torch.ones(2, 3)).item()  # ((1 - .7071)² + .7071²) / 2
        0.2928...
    """
    ours, theirs = (_similarities(x.flatten(1)) for x in prepare(student, teacher))
    return F.mse_loss(ours, theirs)


class RKD(Term):
    """Distances and angles between samples, `rkd_distance_loss` and `rkd_angle_loss`; layers are averaged.

    Args:
        distance_weight: Weight of the distances.
        angle_weight: Weight of the angles.
        weight: Factor of the sum.
        student_layer: Layer, or layers, of the student.
        teacher_layer: Their counterparts in the teacher, of any width.

    Example:
        >>> RKD()(torch.eye(3), torch.eye(3))
        tensor(0.)
    """

    relates_samples = True
    least_samples = 3  # with two, the one distance is its own mean, and there is no angle

    def __init__(
        self,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight

    def forward(
        self, student: Tapped, teacher: Tapped, labels: Tensor | None = None, adapter: nn.Module | None = None
    ) -> Tensor:
        """Computes the weighted sum of both losses, mean over the layers."""
        distance = mean_over_levels(rkd_distance_loss, student, teacher)
        return self.distance_weight * distance + self.angle_weight * mean_over_levels(
            rkd_angle_loss, student, teacher
        )


class SimilarityPreserving(PairwiseTerm):
    """Similarities between samples, `sp_loss`; layers are averaged. A weight of 3000 is customary.

    Example:
        >>> SimilarityPreserving(weight=3000.0)(torch.eye(3), 2 * torch.eye(3))
        tensor(0.)
    """

    relates_samples = True
    least_samples = 2

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes `sp_loss` of one layer."""
        return sp_loss(student, teacher)


def _distances(x: Tensor) -> Tensor:
    # Through differences: a product of matrices loses small distances. cdist's gradient at 0 is 0.
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    mean = distances.sum() / max(len(x) * (len(x) - 1), 1)
    return distances / mean.clamp_min(1e-12)


def _cosines(x: Tensor) -> Tensor:
    """Returns the cosine at sample j between the directions to i and k, `(B, B, B)` indexed [j, i, k]."""
    directions = unit(x[None] - x[:, None], shortest=1e-6)
    return gram(directions, directions)


def _similarities(x: Tensor) -> Tensor:
    return unit(gram(x, x))
