"""Non-maximum suppression in NumPy, for devices that have nothing else.

The rules are those of `lkd.models.suppressed`.
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def suppress(
    boxes: Array,
    scores: Array,
    score_threshold: float,
    iou_threshold: float,
    max_detections: int,
    multi_label: bool = False,
) -> dict[str, Array]:
    """Finds the detections of one picture: threshold, the best candidates, then suppression within a class.

    Args:
        boxes: `(A, 4)` float32, x1, y1, x2, y2 in pixels of the input.
        scores: `(A, C)` float32 of each class, in [0, 1].
        score_threshold: Boxes that score no more than this are dropped.
        iou_threshold: Of two boxes of a class that overlap more than this, the one with the lower score is
            dropped.
        max_detections: Most detections that are kept. Suppression looks at ten times as many of the best
            candidates.
        multi_label: Whether each class of a box is a candidate of its own. Default: its best class alone.

    Returns:
        `boxes (N, 4)`, `scores (N,)` descending, `labels (N,)` int64.

    Example:
        >>> boxes = np.array([[0, 0, 8, 8], [0, 0, 8, 9], [20, 0, 28, 8]], np.float32)
        >>> found = suppress(boxes, np.array([[0.9], [0.8], [0.1]], np.float32), 0.25, 0.6, 300)
        >>> found["boxes"].tolist(), found["labels"].tolist()
        ([[0.0, 0.0, 8.0, 8.0]], [0])
    """
    best = scores.ravel() if multi_label else scores.max(1)
    order = np.argsort(-best, kind="stable")[: 10 * max_detections]
    order = order[best[order] > score_threshold]
    places, labels = np.divmod(order, scores.shape[1]) if multi_label else (order, scores.argmax(1)[order])
    boxes, best, left = boxes[places], best[order], np.arange(len(order))
    kept: list[int] = []
    while len(left) and len(kept) < max_detections:
        first, rest = left[0], left[1:]
        kept.append(int(first))
        apart = (_overlap(boxes[first], boxes[rest]) <= iou_threshold) | (labels[rest] != labels[first])
        left = rest[apart]
    return {"boxes": boxes[kept], "scores": best[kept], "labels": labels[kept].astype(np.int64)}


def _overlap(box: Array, others: Array) -> Array:
    """Computes the intersection over union of a box `(4,)` with others `(N, 4)`.

    0 where neither has an area.
    """
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = sides.clip(0).prod(1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
