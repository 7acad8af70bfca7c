"""The focal part of FGD: features weighted by the teacher's attention, inside boxes and outside."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lkd.checks import expect
from lkd.losses.inputs import prepare
from lkd.losses.maps import require_maps, same_width


def attention(features: Tensor, temperature: float = 0.5) -> tuple[Tensor, Tensor]:
    """Computes where, and in which channels, the magnitude of a map is large.

    Attention to positions is the softmax over the positions of the mean magnitude over the channels, times H
    W. Attention to channels is the softmax over the channels of the mean magnitude over the positions, times
    C. Both are taken at a temperature, and their mean is 1.

    Args:
        features: Maps `(B, C, H, W)`.
        temperature: T of both, above 0.

    Returns:
        Attention to positions `(B, 1, H, W)` and to channels `(B, C, 1, 1)`.

    Example:
        >>> where, which = attention(torch.ones(1, 2, 3, 3))
        >>> where.mean(), which.mean()
        (tensor(1.), tensor(1.))
    """
    size = features.abs()
    where = F.softmax(size.mean(1, keepdim=True).flatten(2) / temperature, 2) * features.shape[2:].numel()
    which = F.softmax(size.mean((2, 3), keepdim=True) / temperature, 1) * features.shape[1]
    return where.unflatten(2, features.shape[2:]), which


def focal_loss(
    student: Tensor,
    teacher: Tensor,
    masks: tuple[Tensor, Tensor],
    temperature: float = 0.5,
    alpha: float = 1e-3,
    beta: float = 5e-4,
    gamma: float = 1e-3,
) -> Tensor:
    """Computes FGD's focal part: features weighted by attention in fore- and background, and attention.

    `alpha sum fg A_S A_C (t - s)² + beta sum bg A_S A_C (t - s)² + gamma (|A_S - A_S'| + |A_C - A_C'|)`, with
    the teacher's attention A to positions and channels and the student's A'. Summed over channels and
    positions, mean over the batch.

    Yang et al.: Focal and Global Knowledge Distillation for Detectors, CVPR 2022, arXiv:2111.11837, Section
    3.1.

    Args:
        student: Maps `(B, C, H, W)`.
        teacher: Maps of the same shape; no gradient flows into them.
        masks: Weights of foreground and background `(B, H, W)`, from `box_masks`.
        temperature: T of the attention, above 0.
        alpha: Weight of the foreground.
        beta: Weight of the background.
        gamma: Weight of the attention.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the features are no maps, shapes differ, or the temperature is not above 0.

    Example:
        >>> from lkd.losses.box_masks import box_masks
        >>> maps, masks = torch.ones(1, 2, 2, 2), box_masks([torch.zeros(0, 4)], (2, 2), (8, 8))
        >>> focal_loss(maps, 3 * maps, masks, beta=0.5)  # 2 channels with difference 2² each
        tensor(4.)
    """
    expect(temperature=temperature, gt=0)
    student, teacher = same_width(*require_maps(*prepare(student, teacher)))
    where, which = attention(teacher, temperature)
    our_where, our_which = attention(student, temperature)
    difference = ((teacher - student).square() * where * which).sum(1)
    foreground, background = (difference * mask for mask in masks)
    parts = [
        alpha * foreground,
        beta * background,
        gamma * (where - our_where).abs(),
        gamma * (which - our_which).abs(),
    ]
    return torch.stack([part.flatten(1).sum(1).mean() for part in parts]).sum()
