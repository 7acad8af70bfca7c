"""Slots on a picture: green where free, red and crossed where busy, each with its name."""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from lkd.edge.predict.parking.overlap import Floats
from lkd.edge.predict.parking.slots import Slots

FREE, BUSY = (0, 200, 80), (225, 40, 40)


def draw_slots(picture: Image.Image, slots: Slots, busy: npt.NDArray[np.bool_]) -> None:
    """Draws the slots on an RGB picture, and how many are free in its upper left corner.

    Args:
        picture: Picture of the size that the slots are scaled to; it is changed.
        slots: The map.
        busy: State `(S,)` of the slots, as `Occupancy.busy`.

    Raises:
        ValueError: If the picture is of another size.

    Example:
        >>> slots = Slots(("A1",), np.array([[[2, 2], [36, 2], [36, 38], [2, 38]]], float), (40, 40), None, "map.json")
        >>> picture = Image.new("RGB", (40, 40))
        >>> draw_slots(picture, slots, np.array([True]))
        >>> picture.getpixel((2, 20))
        (225, 40, 40)
    """
    slots.check("the picture", picture.size)
    pen, line = ImageDraw.Draw(picture), max(1, round(max(picture.size) / 640))
    for name, polygon, is_busy in zip(slots.names, slots.polygons, busy.tolist(), strict=True):
        color = BUSY if is_busy else FREE
        corners = [(float(x), float(y)) for x, y in polygon]
        pen.line([*corners, corners[0]], color, line)
        if is_busy and len(corners) >= 4:  # readable without colors, too
            pen.line([corners[0], corners[2]], color, line)
        _write(
            pen, name, (float(polygon[:, 0].mean()), float(polygon[:, 1].mean())), _fitting(polygon), color
        )
    _write(
        pen,
        f"{int((~busy).sum())} of {len(busy)} free",
        (4, 4),
        max(10, picture.height // 30),
        (255, 255, 255),
        "la",
    )


def _fitting(polygon: Floats) -> int:
    """Returns a font size that fits into a slot and can be read."""
    return int(np.clip(0.3 * np.ptp(polygon, axis=0).min(), 8, 24))


@functools.cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)  # cached here, since it is read anew on each call


def _write(
    pen: ImageDraw.ImageDraw,
    text: str,
    at: tuple[float, float],
    size: int,
    color: tuple[int, int, int],
    anchor: str = "mm",
) -> None:
    pen.text(at, text, color, _font(size), anchor, stroke_width=max(1, size // 10), stroke_fill=(0, 0, 0))
