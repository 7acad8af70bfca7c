"""Losses of a generator of features, at the server."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

EnsembleLoss = Literal["losses", "logits"]


def ensemble_loss(logits: Tensor, labels: Tensor, weights: Tensor, of: EnsembleLoss = "losses") -> Tensor:
    """Measures how far the clients' heads are from the labels of generated features; mean over the batch.

    `"losses"`: `sum_k w_k(y) CE(g_k(z), y)`, as in FedGen's code; `"logits"`: `CE(1/K sum_k g_k(z), y)`, as
    in its paper, where all heads count the same.

    Args:
        logits: Outputs of the heads for the same features, `(K, B, C)`.
        labels: `(B,)`.
        weights: `w_k(y)`, the share of client k in all samples of class y, `(K, C)`; not used for `"logits"`.
        of: `"losses"` or `"logits"`, see above.

    Example:
        >>> logits = torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]])
        >>> weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> ensemble_loss(logits, torch.tensor([0]), weights), ensemble_loss(logits, torch.tensor([0]), weights, "logits")
        (tensor(0.1269), tensor(0.6931))
    """
    if of == "logits":
        return F.cross_entropy(logits.mean(0), labels)
    each = torch.stack([F.cross_entropy(said, labels, reduction="none") for said in logits])
    return (weights.to(each)[:, labels] * each).sum(0).mean()


def diversity_loss(noise: Tensor, features: Tensor) -> Tensor:
    """Returns `exp(- mean_ij d(eps_i, eps_j) |z_i - z_j|)`, small where other noise gives other features.

    As in FedGen's code, d is the mean squared difference of two noises, `|.|` the mean absolute difference of
    two features, and the mean is over all B^2 ordered pairs, also of a sample with itself.

    Args:
        noise: `(B, N)`.
        features: `(B, D)`.

    Example:
        >>> diversity_loss(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [1.0]]))  # exp(-(4 + 4) / 4)
        tensor(0.1353)
    """
    between = (noise[:, None] - noise[None]).square().mean(2)
    apart = (features[:, None] - features[None]).abs().mean(2)
    return (-(between * apart).mean()).exp()


def labels_like(shares: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draws labels with the frequencies of the classes.

    Args:
        shares: Share of every class, `(C,)`.
        count: Number of labels.
        generator: Generator on the CPU.
    """
    return torch.multinomial(shares.cpu().double(), count, replacement=True, generator=generator)
