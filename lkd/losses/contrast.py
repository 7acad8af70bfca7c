"""Noise-contrastive estimation between embeddings of student and teacher."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkd.losses.inputs import full_precision
from lkd.losses.layers import linear
from lkd.losses.unit import require_directions, unit


def nce_loss(positive: Tensor, negative: Tensor, log_noise: Tensor, counts: Tensor | None = None) -> Tensor:
    """Computes `-log h(pos) - sum_k log(1 - h(neg_k))`, mean over the batch, with the critic of CRD.

    `h(e^s) = e^s / (e^s + N z)`, N the number of negatives and z the score that noise has on average. With `z
    = 1/M`, M the size of the data set, it is the paper's critic; the authors' code divides e^s by a constant
    Z, which it sets to M times the mean score of the first batch, so that M cancels: then z is that mean.

    Tian et al.: Contrastive Representation Distillation, ICLR 2020, arXiv:1910.10699, Equations 18 and 19.

    Args:
        positive: Scores s of the pairs of one sample, `(B,)`, the product of embeddings over the temperature.
        negative: Scores s of the pairs of different samples, `(B, K)`.
        log_noise: log z, a scalar.
        counts: How often each negative counts, `(B, K)`, such as 0 to leave one out. N is its sum over
            the row. Default: each once.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> nce_loss(torch.zeros(1), torch.zeros(1, 2), torch.tensor(0.0))  # -log(1/3) - 2 log(2/3)
        tensor(1.9095)
    """
    if negative.dim() != 2 or positive.shape != negative.shape[:1]:
        raise ValueError(
            f"positive must be (B,) and negative (B, K), got {tuple(positive.shape)} and {tuple(negative.shape)}"
        )
    counts = torch.ones_like(negative) if counts is None else counts.to(negative.dtype)
    threshold = counts.sum(1).clamp_min(1).log() + log_noise  # log(N z)
    repelled = counts * F.softplus(negative - threshold[:, None])
    return (F.softplus(threshold - positive) + repelled.sum(1)).mean()


def log_mean_score(positive: Tensor, negative: Tensor, counts: Tensor) -> Tensor:
    """Computes `log mean e^s` over positive `(B,)` and counted negative `(B, K)` pairs, a scalar.

    Args:
        positive: Scores s of pairs of one sample.
        negative: Scores s of pairs of different samples.
        counts: How often each negative counts, `(B, K)`.

    Example:
        >>> log_mean_score(torch.zeros(1), torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 1.0]]))
        tensor(0.)
    """
    both = torch.cat([positive, (negative + counts.to(negative.dtype).log()).flatten()])
    return both.logsumexp(0) - (len(positive) + counts.sum()).log()


class Embeddings(nn.Module):
    """A linear layer for the student's features and one for the teacher's, onto the unit sphere.

    Args:
        student: Number of features of a sample of the student.
        teacher: Number of features of a sample of the teacher.
        dim: Numbers in an embedding.
        generator: Random generator of the initial weights.

    Example:
        >>> embed = Embeddings(4, 6, 8, torch.Generator().manual_seed(0))
        >>> [x.norm(dim=1).round(decimals=4).tolist() for x in embed(torch.ones(1, 4), torch.ones(1, 6))]
        [[1.0], [1.0]]
    """

    def __init__(self, student: int, teacher: int, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.student = linear(student, dim, generator)
        self.teacher = linear(teacher, dim, generator)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Embeds features `(B, ...)`, flattened from dimension 1, as unit vectors `(B, dim)` in float32."""
        for features in (student, teacher):
            require_directions(features.flatten(1))
        dtype = self.student.weight.dtype
        return (
            unit(full_precision(self.student(student.flatten(1).to(dtype)))),
            unit(full_precision(self.teacher(teacher.detach().flatten(1).to(dtype)))),
        )
