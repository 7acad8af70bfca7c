"""Prototypes (mean features of classes) of one client and of all, and distances from them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lkd.federated.protocol.tensors import Tensors


def check_labels(labels: Tensor, classes: int) -> None:
    """Refuses labels that are not in the range of the classes.

    Raises:
        ValueError: If there are any.
    """
    if not len(labels):
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"classes={classes}: there are labels from {low} to {high}; they must be 0 to {classes - 1}."
        )


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensors:
    """Averages the features of each class, and counts its samples; a class without samples has zeros.

    Args:
        features: `(N, D)`.
        labels: `(N,)`.
        classes: Number of classes.

    Returns:
        `mean (classes, D)` and `count (classes,)`.

    Raises:
        ValueError: For labels out of range.

    Example:
        >>> class_means(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1]), 2)["mean"].tolist()
        [[2.0], [5.0]]
    """
    check_labels(labels, classes)
    one_hot = F.one_hot(labels, classes).to(features)
    count = one_hot.sum(0)
    return {"mean": one_hot.T @ features / count.clamp_min(1)[:, None], "count": count}


def joined_means(means: Tensor, counts: Tensor, uniform: bool = False, old: Tensors | None = None) -> Tensors:
    """Averages prototypes over the clients; a class that nobody has keeps its old one.

    Args:
        means: Prototypes of each client, `(K, C, D)`.
        counts: Numbers of its samples of each class, `(K, C)`.
        uniform: Whether clients that have the class count alike; else by their samples of it.
        old: The former `mean` and `count`, if any.

    Returns:
        `mean (C, D)` and `count (C,)`, the samples of all clients, in float32.

    Example:
        >>> means, counts = torch.tensor([[[1.0]], [[4.0]]]), torch.tensor([[1.0], [3.0]])
        >>> joined_means(means, counts)["mean"], joined_means(means, counts, uniform=True)["mean"]
        (tensor([[3.2500]]), tensor([[2.5000]]))
    """
    counts = counts.clamp_min(0)  # a client may reply negative counts
    weights = (counts > 0).double() if uniform else counts
    mean = (weights[..., None] * means).sum(0) / weights.sum(0).clamp_min(1e-12)[:, None]
    new = {"mean": mean.float(), "count": counts.sum(0).float()}
    if old is None:
        return new
    kept = new["count"] == 0
    return {n: torch.where(kept.view(-1, *[1] * (t.dim() - 1)), old[n].cpu(), t) for n, t in new.items()}


def prototype_distance(features: Tensor, labels: Tensor, mean: Tensor, count: Tensor) -> Tensor:
    """Computes the mean squared difference of features and their classes' prototypes.

    Args:
        features: `(B, D)`.
        labels: `(B,)`.
        mean: Prototypes `(C, D)`; no gradient flows into them.
        count: `(C,)`; a class with 0 has no prototype, and its samples add 0 to the mean.

    Example:
        >>> labels, count = torch.tensor([0, 1]), torch.tensor([5, 0])
        >>> prototype_distance(torch.ones(2, 1), labels, torch.zeros(2, 1), count)
        tensor(0.5000)
    """
    known = count[labels] > 0
    targets = torch.where(known[:, None], mean[labels].detach(), features.detach())
    return F.mse_loss(features, targets)


def nearest_prototype(features: Tensor, prototypes: Tensor, count: Tensor) -> Tensor:
    """Returns the class with the nearest prototype: FedProto's own inference, Tan et al. 2022, eq. (8).

    Args:
        features: `(B, D)`.
        prototypes: `(C, D)`.
        count: `(C,)`; classes with 0 have no prototype.

    Returns:
        `(B,)`.

    Example:
        >>> nearest_prototype(torch.tensor([[0.9]]), torch.tensor([[0.0], [1.0]]), torch.ones(2))
        tensor([1])
    """
    distances = torch.cdist(features, prototypes)
    return distances.masked_fill(count == 0, float("inf")).argmin(1)
