"""How much of a slot a box covers: exact areas of polygons within boxes, in NumPy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]


def stacked(polygons: Sequence[Floats]) -> Floats:
    """Stacks polygons of any number of points as one array `(S, P, 2)`.

    Shorter ones repeat their last point.
    """
    longest = max(len(polygon) for polygon in polygons)
    return np.stack([np.pad(one, ((0, longest - len(one)), (0, 0)), "edge") for one in polygons])


def area(polygons: Floats) -> Floats:
    """Returns areas `(S,)` of polygons `(S, P, 2)` that do not cross themselves.

    Example:
        >>> area(np.array([[[0, 0], [4, 0], [4, 3], [0, 3]]], float)).tolist()
        [12.0]
    """
    x, y = polygons[..., 0], polygons[..., 1]
    twice: Floats = (x * np.roll(y, -1, -1) - np.roll(x, -1, -1) * y).sum(-1)
    return np.abs(twice) / 2


def within(polygons: Floats, boxes: Floats) -> Floats:
    """Returns areas `(N, S)` of the parts of polygons `(S, P, 2)` within boxes `(N, 4)`, x1, y1, x2, y2.

    Example:
        >>> slot = np.array([[[0, 0], [4, 0], [0, 4]]], float)
        >>> within(slot, np.array([[0, 0, 2, 2], [-9, -9, 9, 9], [3, 3, 4, 4]], float))[:, 0].tolist()
        [4.0, 8.0, 0.0]
    """
    low, high, areas = polygons.min(1), polygons.max(1), np.zeros((len(boxes), len(polygons)))
    near = ((boxes[:, None, :2] < high) & (boxes[:, None, 2:] > low)).all(2)  # few pairs are near
    box, slot = np.nonzero(near)
    areas[box, slot] = _common(polygons[slot], boxes[box])
    return areas


def _common(polygons: Floats, boxes: Floats) -> Floats:
    """Returns areas `(K,)` of the common parts of polygons `(K, P, 2)` and boxes `(K, 4)`.

    A polygon's section at x is a union of intervals of y; cut to a box, their lengths are sums and
    differences of the edges' heights, each clamped to the box. So the area is a sum over the edges of an
    integral of a clamped line, which is three trapezoids.
    """
    left, top, right, bottom = (boxes[:, side, None] for side in range(4))
    x, y = polygons[..., 0], polygons[..., 1]
    step_x, step_y = np.roll(x, -1, -1) - x, np.roll(y, -1, -1) - y
    # places along the edge, from 0 to 1, where it enters and leaves the box's columns, and crosses its top
    # and bottom
    ends = np.sort([_place(side, x, step_x) for side in (left, right)], 0)
    enter, leave = np.where(step_x == 0, 0, ends).clip(0, 1)
    bends = np.sort([_place(side, y, step_y).clip(enter, leave) for side in (top, bottom)], 0)
    places = np.stack([enter, *bends, leave])
    heights = (y + places * step_y).clip(top, bottom)
    widths = np.diff(places, axis=0) * step_x
    return np.abs((widths * (heights[1:] + heights[:-1]) / 2).sum((0, -1)))


def _place(side: Floats, start: Floats, step: Floats) -> Floats:
    """Returns where lines that begin at `start` and go on by `step` reach `side`: 0 where they never do."""
    return np.divide(side - start, step, out=np.zeros_like(start), where=step != 0)


def rectangle(box: Sequence[float]) -> Floats:
    """Returns the four corners `(4, 2)` of a box x1, y1, x2, y2."""
    x1, y1, x2, y2 = box
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)


def crosses_itself(polygon: Floats) -> bool:
    """Returns whether two edges of a polygon `(P, 2)` cross, as when corners are given in a wrong order.

    Example:
        >>> crosses_itself(np.array([[0, 0], [4, 4], [4, 0], [0, 4]], float))
        True
    """
    start, end = polygon, np.roll(polygon, -1, 0)
    a, b, c, d = start[:, None], end[:, None], start[None], end[None]
    apart = (_turn(a, b, c) * _turn(a, b, d) < 0) & (_turn(c, d, a) * _turn(c, d, b) < 0)
    return bool(apart.any())


def _turn(a: Floats, b: Floats, c: Floats) -> Floats:
    """Returns a positive number where a, b, c turn left, a negative one where they turn right."""
    turn: Floats = (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (
        c[..., 0] - a[..., 0]
    )
    return turn
