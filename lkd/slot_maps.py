"""Where the slots of a car park are: the maps of CNRPark-EXT and PKLot, read without torch."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from lkd.slot_labels import Count
from lkd.text_files import read_rows

SENSOR = (2592, 1944)
"""Size whose pixels `cameraN.csv` of CNRPark-EXT refers to, whatever the size of the frames."""
PKLOT = (1280, 720)
"""Size of all pictures of PKLot, whose pixels its XML files refer to."""


class Space(NamedTuple):
    """A slot of a PKLot file."""

    name: str  # its id in the file, or its place there
    points: list[tuple[float, float]]  # the contour, in pixels
    busy: bool | None  # None where the file does not say it


def read_camera(path: Path) -> Iterator[tuple[str, int, tuple[float, float, float, float]]]:
    """Yields place, number and box (x1, y1, x2, y2 in pixels of `SENSOR`) of each slot of a `cameraN.csv`.

    Raises:
        ValueError: for text that is no number, a box without area, or a repeated slot; the message names file
            and line.
    """
    seen = set()
    for place, row in read_rows(path, ("SlotId", *"XYWH")):
        try:
            slot, (x, y, w, h) = int(row["SlotId"]), (float(row[name]) for name in "XYWH")
        except ValueError as error:
            raise ValueError(f"{place}: SlotId, X, Y, W and H must be numbers.") from error
        if w == 0 or h == 0:
            raise ValueError(f"{place}: the box has no area.")
        if slot in seen:
            raise ValueError(f"{place}: slot {slot} has a box already.")
        seen.add(slot)
        yield place, slot, (x, y, x + w, y + h)


def read_spaces(path: Path, left_out: Count | None = None) -> list[Space]:
    """Reads the slots of a PKLot XML file.

    A slot without a state (the release has some) is `None`, neither busy nor free, and counted.

    Raises:
        ValueError: for a damaged file, a slot of fewer than three points, or another state; the message names
            file and slot.
    """
    spaces = []
    for number, space in enumerate(parking(path).iter("space"), 1):
        place = f"{path}, space {space.get('id', number)}"
        try:
            points = [
                (float(point.get("x", "")), float(point.get("y", "")))
                for point in space.iter()
                if point.tag.lower() == "point"
            ]
        except ValueError as error:
            raise ValueError(f"{place}: a point of the contour has no x or y that is a number.") from error
        if len(points) < 3 or not all(math.isfinite(side) for point in points for side in point):
            raise ValueError(
                f"{place}: the contour must have three points (x, y) at least, of finite numbers."
            )
        if (state := space.get("occupied")) not in (None, "0", "1"):
            raise ValueError(f"{place}: occupied={state!r} must be 0 or 1.")
        if state is None and left_out is not None:
            left_out.add("slots that are said to be neither busy nor free", place)
        spaces.append(Space(space.get("id", str(number)), points, None if state is None else state == "1"))
    return spaces


def parking(xml: Path) -> ElementTree.Element:
    """Returns the root of a PKLot XML file, a parking lot."""
    try:
        root = ElementTree.parse(xml).getroot()
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"{xml} is damaged: {error}.") from error
    if root.tag != "parking":
        raise ValueError(f"{xml} is no slot file of PKLot: it is a <{root.tag}>, where <parking> must be.")
    return root
