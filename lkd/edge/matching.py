"""Matching of the boxes of two answers, without torch."""

from collections.abc import Mapping

import numpy as np

from lkd.edge.nms import Array

OVERLAP = 0.5
"""Lowest intersection over union of two boxes that count as the same."""


def matched(mine: Mapping[str, Array], theirs: Mapping[str, Array]) -> int:
    """Counts the boxes that have a partner of the same class; each takes the nearest one that is left.

    Args:
        mine: `boxes (N, 4)`, x1, y1, x2, y2, and `labels (N,)`.
        theirs: Boxes and labels of the other answer, of any number.

    Example:
        >>> one = {"boxes": np.array([[0.0, 0, 10, 10], [20, 0, 30, 10]]), "labels": np.array([0, 0])}
        >>> matched(one, {"boxes": one["boxes"] + 1, "labels": np.array([0, 1])})
        1
    """
    a, b = mine["boxes"][:, None], theirs["boxes"][None]
    sides = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0)
    common = sides.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - common
    overlap = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    overlap[mine["labels"][:, None] != theirs["labels"][None]] = 0
    pairs = 0
    for row in overlap:
        if len(row) and row.max() >= OVERLAP:
            overlap[:, row.argmax()] = 0  # a view, so the rows that follow see it
            pairs += 1
    return pairs
