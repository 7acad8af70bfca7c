"""Dense detector outputs: the anchor grid, and boxes and scores from raw outputs on it, in plain torch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lkd.looks import later
from lkd.losses import decode_boxes
from lkd.models.suppression import Detections, suppressed

Outputs = dict[str, Any]


def grid(feats: Sequence[Tensor], strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Computes centers and strides of the cells of feature maps, level by level, row by row.

    Args:
        feats: One map `(B, C, h, w)` per level.
        strides: Pixels per cell of each level.

    Returns:
        `anchors (A, 2)`, the cell centers as x, y in pixels, and `strides (A,)` in pixels.

    Example:
        >>> anchors, strides = grid([torch.zeros(1, 8, 1, 2)], [16])
        >>> anchors.tolist(), strides.tolist()
        ([[8.0, 8.0], [24.0, 8.0]], [16.0, 16.0])
    """
    centers, pixels = [], []
    for feat, stride in zip(feats, strides, strict=True):
        height, width = feat.shape[-2:]
        x = (torch.arange(width, device=feat.device, dtype=torch.float32) + 0.5) * stride
        y = (torch.arange(height, device=feat.device, dtype=torch.float32) + 0.5) * stride
        centers.append(torch.stack((x.repeat(height), y.repeat_interleave(width)), dim=1))
        pixels.append(torch.full((height * width,), float(stride), device=feat.device))
    return torch.cat(centers), torch.cat(pixels)


def check_targets(boxes: Tensor, labels: Tensor, num_classes: int) -> None:
    """Checks that boxes are finite and labels are classes.

    Raises ValueError, at a time set by `lkd.looks.later`.

    Args:
        boxes: Boxes `(N, 4)` of all images.
        labels: Labels `(N,)` of all images.
        num_classes: Number of classes.

    Example:
        >>> check_targets(torch.zeros(2, 4), torch.tensor([0, 3]), 2)
        Traceback (most recent call last):
        ...
        ValueError: targets: labels [3] are outside the classes 0..1.
    """
    if labels.is_floating_point() and len(labels):
        raise ValueError(f"targets: labels are {labels.dtype}, but classes are integers (int64).")
    strange = (labels < 0) | (labels >= num_classes)

    def refuse(found: list[float]) -> None:
        finite, outside = found
        if not finite:
            raise ValueError("targets: a box is not finite (NaN or infinite).")
        if outside:
            names = labels[strange].unique().tolist()
            raise ValueError(f"targets: labels {names} are outside the classes 0..{num_classes - 1}.")

    later([boxes.isfinite().all(), strange.any()], refuse)


def boxes_and_scores(outputs: Outputs) -> tuple[Tensor, Tensor]:
    """Computes boxes and scores from raw outputs on a grid, before suppression.

    Args:
        outputs: Raw outputs with `scores (B, nc, A)` class logits and what `decode_boxes` needs.

    Returns:
        Boxes `(B, A, 4)` xyxy in pixels, clipped to the input, and scores `(B, A, nc)` in [0, 1].

    Example:
        >>> outputs = {"scores": torch.zeros(1, 2, 1), "boxes": torch.ones(1, 4, 1),
        ...            "anchors": torch.tensor([[4.0, 4.0]]), "strides": torch.tensor([8.0])}
        >>> boxes_and_scores(outputs)
        (tensor([[[0., 0., 8., 8.]]]), tensor([[[0.5000, 0.5000]]]))
    """
    anchors, strides = outputs["anchors"], outputs["strides"]
    limit = (anchors + strides.unsqueeze(1) / 2).amax(dim=0).repeat(2)  # width, height of the input
    return decode_boxes(outputs).clamp(min=0).minimum(limit), outputs["scores"].float().sigmoid().mT


@torch.no_grad()
def detections(
    outputs: Outputs,
    score_threshold: float = 0.25,
    iou_threshold: float = 0.6,
    max_detections: int = 300,
    class_agnostic: bool = False,
) -> Detections:
    """Computes detections from raw outputs: best class of each anchor, threshold, then suppression.

    Args:
        outputs: Raw outputs with `scores (B, nc, A)` class logits and what `decode_boxes` needs.
        score_threshold: Anchors whose best class scores no more than this are dropped.
        iou_threshold: Of two boxes that overlap more than this, the one with the lower score is dropped.
        max_detections: Most boxes kept in an image. Suppression looks at ten times as many of the best
            anchors.
        class_agnostic: Whether to suppress across classes too. Default: only within a class.

    Returns:
        One dict for each image: `boxes (N, 4)` xyxy pixels clipped to the input, `scores (N,)` descending,
        `labels (N,)` int64.

    Example:
        >>> outputs = {"scores": torch.tensor([[[3.0, 2.0, -9.0]]]), "boxes": torch.ones(1, 4, 3),
        ...            "anchors": torch.tensor([[8.0, 8.0], [9.0, 8.0], [24.0, 8.0]]),
        ...            "strides": torch.full((3,), 8.0)}
        >>> detections(outputs)[0]["boxes"].tolist()
        [[0.0, 0.0, 16.0, 12.0]]
    """
    boxes, scores = boxes_and_scores(outputs)
    return suppressed(boxes, scores, score_threshold, iou_threshold, max_detections, class_agnostic)
