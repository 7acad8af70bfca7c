"""`Tiles`: parts of a frame that are sent on their own, whose boxes are put back into the frame.

Nothing here needs torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lkd.checks import expect
from lkd.edge.nms import Array, suppress

IOU = 0.6
"""Of two boxes of a class from different origins that overlap more than this the one with the lower score is dropped."""
MARGIN = 2.0
"""Pixels: a box that ends this near to a border where the tile was cut counts as part of an object."""

Corners = tuple[int, int, int, int]


@dataclass(frozen=True)
class Tile:
    """One of a frame's tiles.

    Attributes:
        core: `x1, y1, x2, y2` in pixels of the frame. Cores cover the frame and do not overlap.
        crop: The part that is sent: the core and the overlap around it, as far as the frame goes.
    """

    core: Corners
    crop: Corners

    def cut(self, image: Array) -> Array:
        """Cuts the tile's part `(h, w, C)` out of a frame `(H, W, C)`."""
        x1, y1, x2, y2 = self.crop
        return image[y1:y2, x1:x2]


@dataclass(frozen=True)
class Tiles:
    """A grid over a frame.

    Args:
        columns: Tiles side by side.
        rows: Tiles below each other.
        overlap: Pixels of the frame that a tile has beyond its core on each side where there is another tile.
            Objects up to twice as long are never cut in the tile that their center lies in.

    Raises:
        ValueError: Without a column or a row, or for a negative overlap.

    Example:
        >>> [tile.crop for tile in Tiles(2, 1, overlap=4).tiles(height=20, width=40)]
        [(0, 0, 24, 20), (16, 0, 40, 20)]
    """

    columns: int
    rows: int
    overlap: int = 32

    def __post_init__(self) -> None:
        expect(columns=self.columns, rows=self.rows, ge=1)
        expect(overlap=self.overlap, ge=0, why="give pixels, or 0 for none")

    def __len__(self) -> int:
        return self.columns * self.rows

    def tiles(self, height: int, width: int) -> list[Tile]:
        """Returns the tiles of a frame, row by row.

        Args:
            height: Height of the frame, in pixels.
            width: Width of the frame, in pixels.

        Raises:
            ValueError: If the frame has fewer pixels than tiles along a side.
        """
        if self.columns > width or self.rows > height:
            raise ValueError(
                f"columns={self.columns}, rows={self.rows} are more than the pixels of a frame of {width} x {height}: take fewer."
            )
        x = [round(width * i / self.columns) for i in range(self.columns + 1)]
        y = [round(height * i / self.rows) for i in range(self.rows + 1)]
        return [
            Tile(
                (x[i], y[j], x[i + 1], y[j + 1]),
                (
                    max(0, x[i] - self.overlap),
                    max(0, y[j] - self.overlap),
                    min(width, x[i + 1] + self.overlap),
                    min(height, y[j + 1] + self.overlap),
                ),
            )
            for j in range(self.rows)
            for i in range(self.columns)
        ]

    def crops(self, height: int, width: int) -> list[Corners]:
        """Returns the parts that are sent of a frame: `x1, y1, x2, y2` of each tile with its overlap.

        Args:
            height: Height of the frame, in pixels.
            width: Width of the frame, in pixels.
        """
        return [tile.crop for tile in self.tiles(height, width)]

    def parts(self, found: Mapping[str, Array], height: int, width: int) -> list[dict[str, Array]]:
        """Assigns what was found to tiles: boxes with their center in a tile's core, so each box once.

        Args:
            found: `boxes` (N, 4), x1 y1 x2 y2 in pixels of the frame, `scores` (N,) and `labels` (N,).
            height: Height of the frame, in pixels.
            width: Width of the frame, in pixels.
        """
        return [
            _only(found, _centered(tile, found["boxes"], height, width)) for tile in self.tiles(height, width)
        ]

    def merge(
        self, local: Mapping[str, Array], remote: Mapping[int, Mapping[str, Array]], height: int, width: int
    ) -> dict[str, Array]:
        """Returns the answer that stands when some tiles have been sent.

        In a tile that was sent, the server's boxes replace the device's boxes with their center in its core.
        Boxes that end at a border where the tile was cut are parts of objects, so the device's boxes stay
        there. Boxes of different origins that mean one object are suppressed.

        Args:
            local: The device's `boxes` (N, 4), x1 y1 x2 y2 in pixels of the frame, `scores` (N,) and `labels`
                (N,).
            remote: The same of the server, by the number of the tile, in pixels of the tile's crop.
            height: Height of the frame, in pixels.
            width: Width of the frame, in pixels.

        Returns:
            `boxes`, `scores` and `labels` in pixels of the frame: in their order if all are of one origin,
            otherwise by descending score.

        Raises:
            ValueError: If there is no tile with such a number.

        Example:
            >>> local = {"boxes": np.array([[2, 2, 8, 8], [30, 2, 38, 9]], np.float32),
            ...          "scores": np.array([0.5, 0.4], np.float32), "labels": np.array([0, 0])}
            >>> better = {"boxes": np.array([[13, 3, 21, 9]], np.float32), "scores": np.array([0.9], np.float32),
            ...           "labels": np.array([0])}
            >>> Tiles(2, 1, overlap=4).merge(local, {1: better}, 20, 40)["boxes"].tolist()
            [[29.0, 3.0, 37.0, 9.0], [2.0, 2.0, 8.0, 8.0]]
        """
        tiles = self.tiles(height, width)
        stays, origins = np.ones(len(local["boxes"]), bool), []
        for number, found in remote.items():
            origins.append(self.standing(number, found, height, width))
            stays &= ~_of(tiles[number], local["boxes"], height, width)
        return _joined([_only(local, stays), *origins])

    def standing(self, number: int, found: Mapping[str, Array], height: int, width: int) -> dict[str, Array]:
        """Returns the server's boxes that stand if a tile is sent: centered in its core, no parts of objects.

        Args:
            number: Number of the tile.
            found: `boxes` (N, 4) in pixels of the tile's crop, `scores` (N,) and `labels` (N,).
            height: Height of the frame, in pixels.
            width: Width of the frame, in pixels.

        Returns:
            The same entries, in pixels of the frame.

        Raises:
            ValueError: If there is no tile with such a number.
        """
        if not 0 <= number < len(self):
            raise ValueError(f"remote names tile {number}, and {self} has tiles 0 to {len(self) - 1}.")
        tile = self.tiles(height, width)[number]
        boxes = found["boxes"] + np.array(tile.crop[:2] * 2, np.float32)
        own = _of(tile, boxes, height, width)
        return {**_only(found, own), "boxes": boxes[own]}


def _of(tile: Tile, boxes: Array, height: int, width: int) -> Array:
    """Returns which boxes `(N, 4)` the tile decides about: centered in its core, and whole in its crop."""
    crop = tile.crop
    low = np.array([MARGIN if side > 0 else -np.inf for side in crop[:2]])
    high = np.array(
        [MARGIN if side < end else -np.inf for side, end in zip(crop[2:], (width, height), strict=True)]
    )
    whole = (boxes[:, :2] > crop[:2] + low) & (boxes[:, 2:] < crop[2:] - high)
    return _centered(tile, boxes, height, width) & whole.all(1)


def _centered(tile: Tile, boxes: Array, height: int, width: int) -> Array:
    """Returns which boxes `(N, 4)` have their center in the core, or on the frame's far border beside it."""
    x1, y1, x2, y2 = tile.core
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    inside: Array = (x >= x1) & ((x < x2) | (x2 == width)) & (y >= y1) & ((y < y2) | (y2 == height))
    return inside


def _only(found: Mapping[str, Array], which: Array) -> dict[str, Array]:
    return {name: found[name][which] for name in ("boxes", "scores", "labels")}


def _joined(origins: list[dict[str, Array]]) -> dict[str, Array]:
    """Joins all boxes, suppressed across origins; those of one origin have had their own suppression."""
    filled = [found for found in origins if len(found["boxes"])] or origins[:1]
    if len(filled) == 1:
        return filled[0]
    boxes, scores, labels = (
        np.concatenate([found[name] for found in filled]) for name in ("boxes", "scores", "labels")
    )
    classes, columns = np.unique(labels, return_inverse=True)
    of_class = np.full((len(scores), len(classes)), -np.inf, np.float32)
    of_class[np.arange(len(scores)), columns] = scores
    found = suppress(boxes, of_class, -np.inf, IOU, len(scores))
    return {**found, "labels": classes[found["labels"]]}
