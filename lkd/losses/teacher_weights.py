"""Weights of several teachers for each sample."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lkd.losses.divergence import soft_cross_entropy
from lkd.losses.inputs import full_precision
from lkd.losses.scores import require_classes, split_ignored


def confidence_weights(teachers: Tensor, labels: Tensor) -> Tensor:
    """Computes `w_k = (1 - softmax_k(CE_k)) / (K - 1)`, with teacher k's cross-entropy CE_k.

    So a teacher that is far from the truth on a sample counts little there. The K weights of a sample sum to
    1.

    Zhang, Chen, Wang: Confidence-Aware Multi-Teacher Knowledge Distillation, ICASSP 2022, arXiv:2201.00007.
    (Their code divides the weighted sum by K once more.)

    Args:
        teachers: Logits `(B, K, C)`.
        labels: True classes `(B,)`, int64.

    Returns:
        Weights `(B, K)` without a graph; 1 for a single teacher.

    Raises:
        ValueError: If the labels are no classes, not one for each sample, or there is one class only.

    Example:
        >>> teachers = torch.tensor([[[4.0, 0.0], [0.0, 4.0]]])
        >>> confidence_weights(teachers, torch.tensor([0]))
        tensor([[0.9820, 0.0180]])
    """
    split_ignored(labels, len(teachers), teachers.shape[2])
    logits = full_precision(teachers.detach())
    require_classes(logits, 2)
    count = logits.shape[1]
    if count == 1:
        return logits.new_ones(len(logits), 1)
    cross = F.cross_entropy(logits.transpose(1, 2), labels[:, None].expand(-1, count), reduction="none")
    return (1 - cross.softmax(1)) / (count - 1)


def entropy_weights(teachers: Tensor) -> Tensor:
    """Computes `w_k = (1 - H_k / sum_j H_j) / (K - 1)`, where H_k is the entropy of teacher k's prediction.

    So a teacher that is sure of a sample counts more there; no label is needed. The K weights of a sample sum
    to 1; they are equal where all teachers are certain.

    The idea is that of Kwon et al.: Adaptive Knowledge Distillation Based on Entropy, ICASSP 2020. The
    formula is the one that the code of CA-MKD (see `confidence_weights`) uses for comparison, with the sum of
    the weights scaled from K - 1 to 1. We could not confirm that Kwon et al. use the same formula.

    Args:
        teachers: Logits `(B, K, C)`.

    Returns:
        Weights `(B, K)` without a graph; 1 for a single teacher.

    Raises:
        ValueError: If there is one class only.

    Example:
        >>> teachers = torch.tensor([[[100.0, 0.0], [0.0, 0.0]]])
        >>> entropy_weights(teachers)
        tensor([[1., 0.]])
    """
    logits = full_precision(teachers.detach())
    require_classes(logits, 2)
    count = logits.shape[1]
    if count == 1:
        return logits.new_ones(len(logits), 1)
    log_p = F.log_softmax(logits, -1)
    entropy = soft_cross_entropy(log_p, log_p)
    total = entropy.sum(1, keepdim=True)
    share = torch.where(total > 0, entropy / total, 1 / count)
    return (1 - share) / (count - 1)
