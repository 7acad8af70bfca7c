"""Boxes in pixels from raw detector outputs."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lkd.losses.inputs import full_precision


def decode_boxes(outputs: Mapping[str, Any]) -> Tensor:
    """Turns distances, or distributions over them, into corner coordinates.

    Each anchor predicts how far the left, top, right and bottom sides lie from its cell center, in units of
    its stride. With `reg_max > 1` a distance is the expectation of the softmax over the bins 0 to
    `reg_max - 1` (Li et al.: Generalized Focal Loss, NeurIPS 2020, arXiv:2006.04388); with `reg_max == 1` it
    is the value itself and may be negative, so that a box may come out inverted.

    Args:
        outputs: Raw outputs with `boxes (B, 4 reg_max, A)`, `anchors (A, 2)` in pixels and `strides (A,)` in
            pixels.

    Returns:
        Boxes `(B, A, 4)` as x1, y1, x2, y2 in pixels, at least float32, not clipped to the image.

    Raises:
        ValueError: If an entry is missing or the shapes do not fit.

    Example:
        >>> decode_boxes({"boxes": torch.ones(1, 4, 1), "anchors": torch.tensor([[12.0, 20.0]]),
        ...               "strides": torch.tensor([8.0])})
        tensor([[[ 4., 12., 20., 28.]]])
    """
    bins, anchors = box_bins(outputs), full_precision(outputs["anchors"])
    strides = full_precision(outputs["strides"])
    if bins.shape[2] > 1:
        values = torch.arange(bins.shape[2], device=bins.device, dtype=bins.dtype)
        distances = (bins.softmax(2) * values[:, None]).sum(2)  # no matmul: autocast would round it
    else:
        distances = bins[:, :, 0]
    distances = distances.mT * strides[:, None]  # (B, A, 4)
    return torch.cat([anchors - distances[..., :2], anchors + distances[..., 2:]], -1)


def box_bins(outputs: Mapping[str, Any]) -> Tensor:
    """Returns the box logits as `(B, 4, reg_max, A)`, at least float32.

    Args:
        outputs: Raw outputs with `boxes (B, 4 reg_max, A)`, `anchors (A, 2)` and `strides (A,)`.

    Raises:
        ValueError: If an entry is missing or the shapes do not fit.

    Example:
        >>> outputs = {"boxes": torch.ones(1, 64, 9), "anchors": torch.ones(9, 2), "strides": torch.ones(9)}
        >>> box_bins(outputs).shape
        torch.Size([1, 4, 16, 9])
    """
    require(outputs, "boxes", "anchors", "strides")
    boxes, anchors, strides = outputs["boxes"], outputs["anchors"], outputs["strides"]
    if boxes.dim() != 3 or boxes.shape[1] % 4 or boxes.shape[1] == 0:
        raise ValueError(f"boxes must have the shape (B, 4 * reg_max, A), got {tuple(boxes.shape)}")
    if anchors.shape != (boxes.shape[2], 2) or strides.shape != (boxes.shape[2],):
        raise ValueError(
            f"{boxes.shape[2]} anchors need anchors (A, 2) and strides (A,), got {tuple(anchors.shape)} and "
            f"{tuple(strides.shape)}"
        )
    return full_precision(boxes).unflatten(1, (4, -1))


def require(outputs: Mapping[str, Any], *keys: str) -> None:
    """Raises ValueError if `outputs` is no dict of raw outputs with these entries.

    Example:
        >>> require({"scores": 0}, "scores", "boxes")
        Traceback (most recent call last):
        ...
        ValueError: raw detector outputs need the entries scores, boxes; found scores (YOLO has them; detectors of other kinds
        teach by pseudo-labels, BoxDistillation(hard=1), and by features, CWD on ':feats:*')
    """
    if not isinstance(outputs, Mapping) or any(key not in outputs for key in keys):
        found = ", ".join(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
        raise ValueError(
            f"raw detector outputs need the entries {', '.join(keys)}; found {found} (YOLO has them; detectors of other kinds "
            "teach by pseudo-labels, BoxDistillation(hard=1), and by features, CWD on ':feats:*')"
        )
