"""Matching of boxes to slots: best pairs first, one box for one slot, as a car seen obliquely covers more."""

import numpy as np

from lkd.edge.predict.parking.overlap import Floats, within
from lkd.edge.predict.parking.slots import Slots

SAME = 0.8
"""IoU above which two boxes, mostly of two classes (a car and a truck), belong to one vehicle."""


def fill(slots: Slots, boxes: Floats) -> Floats:
    """Returns the share `(S,)` of each slot that its box covers; 0 for a slot without a box.

    If the picture's edge cuts a slot off, only its part in the picture counts. Of the rules that
    `benchmarks/slot_rules.py` compares, this one needs no tuning from camera to camera.

    Args:
        slots: The map.
        boxes: `(N, 4)` float64, x1, y1, x2, y2 in pixels.

    Example:
        >>> a1 = np.array([[0, 0], [8, 0], [8, 8], [0, 8]], float)
        >>> slots = Slots(("A1", "A2"), np.stack([a1, a1 + [8, 0]]), (16, 8), None, "map.json")
        >>> fill(slots, np.array([[2.0, 0, 12, 8]])).tolist()
        [0.75, 0.0]
    """
    covered = within(slots.polygons, boxes)
    return greedily(np.divide(covered, slots.areas, out=covered, where=slots.areas > 0))


def greedily(scores: Floats) -> Floats:
    """Returns scores `(S,)` of the boxes that slots are given, the best pair first; 0 for a slot without one.

    Args:
        scores: `(N, S)` of each pair of box and slot, 0 for pairs that do not meet.

    Example:
        >>> greedily(np.array([[0.9, 0.6], [0.0, 0.2]])).tolist()
        [0.9, 0.2]
    """
    given, filled, used = np.zeros(scores.shape[1]), set[int](), set[int]()
    pairs = np.argwhere(scores > 0)
    for box, slot in pairs[np.argsort(-scores[tuple(pairs.T)], kind="stable")].tolist():
        if box not in used and slot not in filled:
            given[slot] = scores[box, slot]
            used.add(box)
            filled.add(slot)
    return given


def distinct(boxes: Floats, scores: Floats) -> Floats:
    """Returns boxes `(M, 4)` without those that nearly equal one of a higher score.

    All pairs are compared at once, since box by box would take as long as everything else here.

    Example:
        >>> boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [5, 0, 15, 10]], float)
        >>> distinct(boxes, np.array([0.5, 0.9, 0.7])).tolist()
        [[0.0, 0.0, 10.0, 9.0], [5.0, 0.0, 15.0, 10.0]]
    """
    best = boxes[np.argsort(-scores, kind="stable")]
    low, high = best[:, :2], best[:, 2:]
    common = (np.minimum(high[:, None], high) - np.maximum(low[:, None], low)).clip(0).prod(2)
    area = (high - low).prod(1)
    same = common > SAME * (area[:, None] + area - common)
    return best[~np.triu(same, 1).any(0)]
