"""Accuracy of a decentralized client on its own classes, and on all."""

import torch
from torch import Tensor


def hits(logits: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts correct answers and samples of each class.

    Args:
        logits: `(B, C)`.
        labels: `(B,)`.
        classes: C.

    Returns:
        `(2, C)`: correct answers, and samples.

    Example:
        >>> hits(torch.eye(3), torch.tensor([0, 1, 1]), 3)
        tensor([[1., 1., 0.],
                [1., 2., 0.]])
    """
    right = (logits.argmax(1) == labels).float()
    counts = torch.zeros(2, classes, device=logits.device)
    counts[0].index_add_(0, labels, right)
    counts[1].index_add_(0, labels, torch.ones_like(right))
    return counts.cpu()


def betas(counts: Tensor, private: Tensor) -> tuple[float, float]:
    """Estimates accuracy for the client's own label distribution, and for uniform labels.

    `beta_priv = sum_c p_k(c) acc_c` and `beta_sh = mean_c acc_c`, the expected accuracies on test sets drawn
    with these label distributions (Zhmoginov et al., "Decentralized Learning with Multi-Headed Distillation",
    CVPR 2023, arXiv:2211.15774, Section 4). Classes without a test sample are left out.

    Args:
        counts: Correct answers and samples of each class, `(2, C)`.
        private: The client's training samples of each class, `(C,)`.

    Returns:
        `beta_priv` and `beta_sh`.

    Example:
        >>> betas(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([3.0, 1.0]))
        (0.75, 0.5)
    """
    known = counts[1] > 0
    accuracy = (counts[0][known] / counts[1][known]).double()
    weights = private[known].double()
    return float((weights * accuracy).sum() / weights.sum().clamp_min(1e-12)), float(accuracy.mean())
