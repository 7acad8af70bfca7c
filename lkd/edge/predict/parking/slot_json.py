"""A map of slots as plain JSON: the picture's size, the camera's name, and a polygon for each slot."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from lkd.edge.predict.parking.overlap import Floats
from lkd.text_files import read_text

FORM = '{"size": [width, height], "camera": "name", "slots": {"A1": [[x, y], [x, y], [x, y], [x, y]]}}'


def read_json(path: Path) -> tuple[tuple[int, int], str | None, dict[str, Floats]]:
    """Reads the picture's size, the camera's name (or None), and polygons `(P, 2)` in pixels by slot name.

    Raises:
        ValueError: For a file of another form; the message names the fault.
    """
    place = f"slots={str(path)!r}"
    try:
        found = json.loads(read_text(path), object_pairs_hook=_without_repetition)
    except ValueError as error:
        raise ValueError(f"{place} is no map: {error}. A map is {FORM}.") from error
    if not isinstance(found, dict) or not {"size", "slots"} <= set(found) <= {"size", "camera", "slots"}:
        keys = f"has the entries {', '.join(map(str, found))}" if isinstance(found, dict) else "is no object"
        raise ValueError(f"{place} {keys}; a map is {FORM}, where the camera may be left out.")
    size, camera, slots = found["size"], found.get("camera"), found["slots"]
    if not (
        isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    ):
        raise ValueError(
            f"{place}: size={size!r} must be [width, height] of the picture in pixels, two whole numbers."
        )
    if camera is not None and not isinstance(camera, str):
        raise ValueError(f"{place}: camera={camera!r} must be a name in quotes.")
    if not isinstance(slots, dict):
        raise ValueError(f"{place}: slots must be an object of a polygon for each name, as {FORM}.")
    return (
        (size[0], size[1]),
        camera,
        {name: _polygon(slot, f"{place}, slot {name}") for name, slot in slots.items()},
    )


def _polygon(points: Any, place: str) -> Floats:
    """Returns a polygon of the file as an array."""
    pairs = isinstance(points, list) and all(isinstance(point, list) and len(point) == 2 for point in points)
    if (
        not pairs
        or len(points) < 3
        or not all(type(side) in (int, float) for point in points for side in point)
    ):
        raise ValueError(f"{place}: {points!r} must be three corners [x, y] at least, in pixels.")
    return np.array(points, np.float64)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes an object, and refuses equal names, of which JSON would silently keep the last."""
    names = [name for name, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"it has {', '.join(twice)} twice")
    return dict(pairs)
