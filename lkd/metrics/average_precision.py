"""Average precision of frames that are matched once and pooled many times.

`DetectionTable` is what a run reports. It matches all frames anew at each call, which is too slow if the
answers of single frames are exchanged thousands of times, as for the curves of `offload`. The rules here are
the same, COCO's, and a test compares both.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

IOUS: Array = np.arange(50, 100, 5) / 100
"""Overlaps at which an object counts as found; `map` averages over them."""
RECALLS: Array = np.arange(101) / 100
"""Recalls at which precision is read."""


class Matched(NamedTuple):
    """Detections of a frame by score, and which of them found an object.

    Attributes:
        scores: `(D,)`.
        labels: `(D,)`.
        hits: `(D, T)` bool, at each of T overlaps.
        objects: Labels of the objects `(M,)`.
    """

    scores: Array
    labels: Array
    hits: Array
    objects: Array


def overlaps(boxes: Array, others: Array) -> Array:
    """Computes the intersection over union `(D, M)` of boxes `(D, 4)` and others `(M, 4)`, xyxy.

    Example:
        >>> overlaps(np.array([[0, 0, 2, 2]]), np.array([[1, 0, 3, 2], [5, 5, 6, 6]])).round(3).tolist()
        [[0.333, 0.0]]
    """
    boxes, others = boxes.astype(np.float64), others.astype(np.float64)
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = (high - low).clip(0).prod(2)
    areas = [(each[:, 2:] - each[:, :2]).prod(1) for each in (boxes, others)]
    union = areas[0][:, None] + areas[1][None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def match(found: Mapping[str, Array], truth: Mapping[str, Array], most: int = 300) -> Matched:
    """Matches a frame's detections with its objects.

    From the best score down, each detection takes the free object of its class that it overlaps most.

    Args:
        found: `boxes (D, 4)` xyxy, `scores (D,)`, `labels (D,)`.
        truth: `boxes (M, 4)`, `labels (M,)`.
        most: Largest number of detections of a class that count, the best first.

    Example:
        >>> box = np.array([[0.0, 0.0, 8.0, 8.0]])
        >>> found = {"boxes": box.repeat(2, 0), "scores": np.array([0.9, 0.8]), "labels": np.zeros(2, int)}
        >>> match(found, {"boxes": box, "labels": np.zeros(1, int)}).hits.all(1).tolist()
        [True, False]
    """
    order = np.argsort(-found["scores"], kind="stable")
    labels = found["labels"][order]
    kept = np.zeros(len(order), bool)
    for label in np.unique(labels):
        kept[np.flatnonzero(labels == label)[:most]] = True
    order, labels = order[kept], labels[kept]
    shared = overlaps(found["boxes"][order], truth["boxes"])
    shared[labels[:, None] != truth["labels"][None]] = -1.0
    hits, taken = np.zeros((len(order), len(IOUS)), bool), np.zeros((len(IOUS), len(truth["labels"])), bool)
    for row in np.flatnonzero((shared >= IOUS[0]).any(1)):
        free = np.where(taken, -1.0, shared[row])
        best = free.shape[1] - 1 - free[:, ::-1].argmax(1)  # the last among equals, as COCO's code does
        good = np.flatnonzero(free[np.arange(len(IOUS)), best] >= IOUS)
        hits[row, good] = taken[good, best[good]] = True
    return Matched(found["scores"][order].astype(np.float64), labels, hits, truth["labels"])


def pooled(frames: Sequence[Matched]) -> dict[str, float]:
    """Computes `map50`, `map`, `precision` and `recall` as `DetectionTable` does; NaN without any object."""
    curves = _precisions(frames, slice(None))
    if not curves:
        return dict.fromkeys(("map50", "map", "precision", "recall"), float("nan"))
    precision = np.stack(curves)  # (C, 101, T)
    half = precision[:, :, 0]
    f1 = 2 * half * RECALLS / (half + RECALLS).clip(1e-12)
    best = f1.argmax(1)
    return {
        "map50": float(half.mean()),
        "map": float(precision.mean()),
        "precision": float(half[np.arange(len(half)), best].mean()),
        "recall": float(RECALLS[best].mean()),
    }


def pooled_ap(frames: Sequence[Matched], metric: str) -> float:
    """Computes one of `map50` and `map`, faster than `pooled`.

    Args:
        frames: Matched frames.
        metric: Name of the metric.
    """
    curves = _precisions(frames, slice(0, 1) if metric == "map50" else slice(None))
    return float(np.mean(curves)) if curves else float("nan")


def _precisions(frames: Sequence[Matched], which: slice) -> list[Array]:
    """Computes precision `(101, T)` over recall, for each class that has objects."""
    objects = np.concatenate([frame.objects for frame in frames])
    scores, labels = (np.concatenate([frame[k] for frame in frames]) for k in (0, 1))
    hits = np.concatenate([frame.hits[:, which] for frame in frames])
    order = np.argsort(-scores, kind="stable")
    labels, hits = labels[order], hits[order]
    curves = []
    for label in np.unique(objects):
        mine = hits[labels == label]
        right = np.cumsum(mine, 0, dtype=np.float64)
        recall = right / (objects == label).sum()
        precision = right / (np.arange(len(mine)) + 1 + np.spacing(1))[:, None]
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        curve = np.zeros((len(RECALLS), mine.shape[1]))
        for column in range(mine.shape[1]):
            places = np.searchsorted(recall[:, column], RECALLS, side="left")
            there = places < len(mine)
            curve[there, column] = precision[places[there], column]
        curves.append(curve)
    return curves
