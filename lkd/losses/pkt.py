"""Distillation of the probabilities that samples are neighbors: probabilistic knowledge transfer."""

import torch
from torch import Tensor

from lkd.losses.inputs import prepare
from lkd.losses.pairwise import PairwiseTerm
from lkd.losses.unit import cosines

FLOOR = 1e-7
"""Lowest kernel: samples in opposite directions still have a tiny probability. The value is the authors'."""


def pkt_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Computes the KL between the conditional probabilities of neighbors, mean over the samples.

    `p_j|i = k(x_i, x_j) / sum_{m != i} k(x_i, x_m)` for j != i, with the cosine kernel `k = (cos + 1) / 2`;
    the loss is `1/B sum_i sum_{j != i} p_j|i log(p_j|i / q_j|i)`, p the teacher's and q the student's.
    Scaling or rotating an embedding does not matter. It takes 3 samples to have a choice of neighbors:
    below, the loss is 0.

    The authors' code keeps j = i and averages over the B² pairs, so its usual weight of 30000 is about
    30000 / B here (470 for a batch of 64).

    Passalis and Tefas: Learning Deep Representations with Probabilistic Knowledge Transfer, ECCV 2018,
    arXiv:1803.10837, Section 3 (cosine kernel, KL).

    Args:
        student: Features `(B, ...)`, flattened from dimension 1.
        teacher: Features `(B, ...)` of any width; no gradient flows into them.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the batch sizes differ, or a sample is one number.

    Example:
        >>> points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> pkt_loss(points, 2 * points), pkt_loss(points, torch.eye(3))  # 2/3 (.5 log .5/.369 + .5 log .5/.631)
        (tensor(0.), tensor(0.0236))
    """
    ours, theirs = (_log_probabilities(x.flatten(1)) for x in prepare(student, teacher))
    others = ~torch.eye(len(ours), dtype=torch.bool, device=ours.device)
    return torch.where(others, theirs.exp() * (theirs - ours), 0.0).sum(1).mean()


class PKT(PairwiseTerm):
    """Probabilities of neighbors, `pkt_loss`; layers are averaged. The usual layer is the embedding.

    Example:
        >>> PKT(weight=470.0)(torch.eye(3), 2 * torch.eye(3))
        tensor(0.)
    """

    relates_samples = True
    least_samples = 3

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes `pkt_loss` of one layer."""
        return pkt_loss(student, teacher)


def _log_probabilities(features: Tensor) -> Tensor:
    """Returns log p_j|i at [i, j]; the diagonal has no meaning."""
    # The floor keeps the logarithm of opposite samples finite, and rounding from pushing the kernel below 0.
    kernel = ((cosines(features) + 1) / 2).clamp_min(FLOOR)
    others = kernel.sum(1, keepdim=True) - kernel.diagonal()[:, None]
    return kernel.log() - others.clamp_min(FLOOR).log()
