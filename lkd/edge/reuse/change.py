"""How much a picture changed, cell by cell of a small grey grid."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Grid = npt.NDArray[np.int16]


def grid(image: npt.NDArray[np.uint8], cells: int) -> Grid:
    """Mean grey of each cell.

    Args:
        image: `(H, W, 3)` RGB or `(H, W)` grey, uint8.
        cells: Along the longer side; along the other one as many as its length allows, and no more than there are pixels.

    Returns:
        `(h, w)` int16 in 0 to 255, rounded.

    Example:
        >>> picture = np.zeros((4, 8, 3), np.uint8)
        >>> picture[:, 6:] = 200
        >>> grid(picture, 4).tolist()
        [[0, 0, 0, 200], [0, 0, 0, 200]]
    """
    height, width = image.shape[:2]
    scale = min(1.0, cells / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    grey = Image.fromarray(image).convert("L").resize(size, Image.Resampling.BOX)
    return np.asarray(grey, np.int16)


def change(one: Grid, other: Grid) -> npt.NDArray[np.floating[Any]]:
    """Absolute difference `(h, w)` of each cell, in grey levels, after what most cells share is taken off.

    The median difference is what a cloud or the camera's exposure does to the whole picture, and no answer of a network
    depends on it.

    Example:
        >>> before = np.full((3, 3), 100, np.int16)
        >>> after = before + 7
        >>> after[0, 0] += 40
        >>> change(before, after).tolist()
        [[40.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    difference = other - one
    found: npt.NDArray[np.floating[Any]] = np.abs(difference - np.median(difference))
    return found


def watched(shape: tuple[int, int], regions: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    """Which cells of a grid touch any of some regions.

    Args:
        shape: Of the grid, `(h, w)`.
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
