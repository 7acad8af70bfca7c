"""How much a picture changed, cell by cell of a small grid of colors."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Grid = npt.NDArray[np.int16]

SAMPLES = 4
"""Fewest pixels that are read along a side of a cell; in a large picture more would only cost time."""


def grid(image: npt.NDArray[np.uint8], cells: int) -> Grid:
    """Computes the mean color of each cell.

    If a picture has many pixels per cell, only each second, third, ... row and column is used.

    Args:
        image: `(H, W, 3)` RGB or `(H, W)` gray, uint8.
        cells: Number of cells along the longer side; the other side has as many as fit, and no more than it
            has pixels.

    Returns:
        `(h, w, 3)` int16 in 0 to 255, rounded, or `(h, w, 1)` for a gray picture.

    Example:
        >>> picture = np.zeros((4, 8, 3), np.uint8)
        >>> picture[:, 6:] = 200
        >>> grid(picture, 4)[..., 0].tolist()
        [[0, 0, 0, 200], [0, 0, 0, 200]]
    """
    height, width = image.shape[:2]
    scale = min(1.0, cells / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    step = max(1, int(max(height, width) / (SAMPLES * cells)))
    small = Image.fromarray(np.ascontiguousarray(image[::step, ::step])).resize(size, Image.Resampling.BOX)
    return np.asarray(small, np.int16).reshape(size[1], size[0], -1)


def change(one: Grid, other: Grid) -> tuple[npt.NDArray[np.floating[Any]], float]:
    """Computes how much each cell changed beyond the common change, and that change, in levels of a color.

    The color that changed most counts: in gray alone, a red car on asphalt of the same brightness would be no
    change. A cloud, or the camera's exposure, changes all cells by about the same, their median. Added to
    each cell's own change, it would hide which cells changed. Left out altogether, it would hide a car that
    fills a slot's whole picture.

    Returns:
        Absolute differences from the median, the largest over the colors, `(h, w)`; and the median's size.

    Example:
        >>> before = np.full((3, 3, 1), 100, np.int16)
        >>> after = before + 7
        >>> after[0, 0] += 40
        >>> changes, shared = change(before, after)
        >>> changes.tolist(), shared
        ([[40.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], 7.0)
    """
    difference = other - one
    shared = np.median(difference, (0, 1))
    return np.abs(difference - shared).max(-1), float(np.abs(shared).max())


def watched(shape: tuple[int, int], regions: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    """Returns which cells of a grid touch any of some regions.

    Args:
        shape: Shape of the grid, `(h, w)`.
        regions: `(N, 4)` x1, y1, x2, y2 as shares of the picture's width and height.

    Example:
        >>> watched((2, 4), np.array([[0.0, 0.0, 0.3, 0.5]])).astype(int).tolist()
        [[1, 1, 0, 0], [0, 0, 0, 0]]
    """
    height, width = shape
    left, top, right, bottom = (regions * [width, height, width, height]).T[..., None]
    columns, rows = np.arange(width), np.arange(height)
    across, down = (left < columns + 1) & (right > columns), (top < rows + 1) & (bottom > rows)
    return (down[:, :, None] & across[:, None, :]).any(0)
