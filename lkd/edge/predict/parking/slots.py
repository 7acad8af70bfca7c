"""`Slots`: where the slots of a car park are in a camera's picture."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from lkd.edge.predict.parking.overlap import Floats, area, crosses_itself, rectangle, stacked, within
from lkd.edge.predict.parking.slot_json import read_json
from lkd.slot_maps import PKLOT, SENSOR, parking, read_camera, read_spaces

MARGIN = 0.01
"""How far, as a share, the shapes of two pictures may differ, and the middle of a slot lie beyond the edge."""


@dataclass(frozen=True)
class Slots:
    """The slots of one camera, in pixels of its pictures.

    Attributes:
        names: Names of the slots, all different.
        polygons: `(S, P, 2)` float64, x and y in pixels; those of fewer points than P repeat their last one.
        size: Width and height of the picture.
        camera: Name of the camera, or None if it is not known.
        path: File that they were read from.

    Example:
        >>> slots = Slots(("A1",), rectangle([2, 2, 6, 8])[None], (10, 10), "gate", "map.json")
        >>> slots.scaled((20, 20)).polygons[0, 2].tolist()
        [12.0, 16.0]
    """

    names: tuple[str, ...]
    polygons: Floats
    size: tuple[int, int]
    camera: str | None
    path: str

    @classmethod
    def read(cls, path: str | Path, size: tuple[int, int] | None = None, camera: str | None = None) -> Self:
        """Reads a map: CNRPark-EXT's `cameraN.csv`, an `.xml` of PKLot, or a `.json` of polygons.

        Coordinates are pixels of a picture size that the file names or its data set has (2592x1944,
        1280x720), and are scaled.

            {"size": [1920, 1080], "camera": "gate", "slots": {"A1": [[10, 20], [90, 20], [95, 70], [12, 72]]}}

        Args:
            path: The map.
            size: Width and height of the camera's pictures. Default: the size that the map refers to.
            camera: Name of the camera, to be compared with the map's; `C1`, `camera1` and `01` are the same.
                Default: not compared.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: For a map that is damaged, for another camera, or for a picture of another shape; the
                message names it.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"slots={str(path)!r} does not exist; give a map: a .csv, .xml or .json.")
        match path.suffix.lower():
            case ".csv":
                polygons = {str(slot): rectangle(box) for _, slot, box in read_camera(path)}
                number = re.fullmatch(r"camera0*(\d+)", path.stem, re.I)
                own, its_camera = SENSOR, f"C{number[1]}" if number else None
            case ".xml":
                spaces = read_spaces(path)
                polygons = {space.name: np.array(space.points, np.float64) for space in spaces}
                names = [space.name for space in spaces]
                if twice := sorted({name for name in names if names.count(name) > 1}):
                    raise ValueError(f"slots={str(path)!r} has several slots of the id {', '.join(twice)}.")
                own, its_camera = PKLOT, parking(path).get("id")
            case ".json":
                own, its_camera, polygons = read_json(path)
            case suffix:
                raise ValueError(f"slots={str(path)!r} ends with {suffix!r}; a map is a .csv, .xml or .json.")
        if camera is not None and its_camera is not None and _plain(camera) != _plain(its_camera):
            raise ValueError(
                f"slots={str(path)!r} is a map of camera {its_camera!r}, not of camera={camera!r}: give that camera's map."
            )
        _check(polygons, own, path)
        slots = cls(tuple(polygons), stacked(list(polygons.values())), own, its_camera or camera, str(path))
        return slots if size is None else slots.scaled(size)

    def scaled(self, size: tuple[int, int]) -> Self:
        """Returns the same slots in pixels of pictures of another size.

        Raises:
            ValueError: If these have another shape.
        """
        (width, height), (w, h) = self.size, size
        if min(size) < 1 or abs(w * height / (h * width) - 1) > MARGIN:
            raise ValueError(
                f"slots={self.path!r} is a map of a {width}x{height} picture, and the camera's is {w}x{h}, of another shape: "
                "it is of another camera, or the picture was cropped. Make a map of the picture that is used."
            )
        return replace(self, polygons=self.polygons * np.array([w / width, h / height]), size=(w, h))

    @cached_property
    def areas(self) -> Floats:
        """Area `(S,)` of each slot in square pixels, as far as it lies in the picture."""
        return within(self.polygons, np.array([[0, 0, *self.size]], np.float64))[0]

    def check(self, source: str, size: tuple[int, int]) -> None:
        """Refuses a picture that the map does not belong to.

        Args:
            source: Path of the picture: a folder `camera2` of CNRPark-EXT is compared with the map's camera.
            size: Its width and height.

        Raises:
            ValueError: If it is of another size or camera.
        """
        if size != self.size:
            raise ValueError(
                f"{source} is a picture of {size[0]}x{size[1]}, and the slots of {self.path} are scaled to "
                f"{self.size[0]}x{self.size[1]}: a camera's pictures must be of one size."
            )
        folders = [part for part in Path(source).parts[:-1] if re.fullmatch(r"camera\d+", part)]
        mine = self.camera is not None and re.fullmatch(r"C\d+", self.camera)
        if mine and self.path.lower().endswith(".csv") and folders and _plain(folders[-1]) != _plain(mine[0]):
            raise ValueError(
                f"{source} is of {folders[-1]}, and {self.path} is a map of {mine[0]}: give each camera its own map."
            )


def _plain(camera: str) -> str:
    """Returns a camera's name in one spelling: C1, camera01 and 1 are the same."""
    number = re.fullmatch(r"(?:c|cam|camera)?[ _-]*0*(\d+)", camera.strip(), re.I)
    return number[1] if number else camera.strip().casefold()


def _check(polygons: dict[str, Floats], size: Sequence[int], path: Path) -> None:
    """Refuses a map without slots, and invalid slots."""
    if not polygons:
        raise ValueError(f"slots={str(path)!r} has no slot in it.")
    for name, polygon in polygons.items():
        place = f"slots={str(path)!r}, slot {name}"
        if not np.isfinite(polygon).all() or crosses_itself(polygon) or area(polygon[None])[0] <= 0:
            raise ValueError(
                f"{place}: its corners {polygon.tolist()} must be finite, in their order round the slot, and enclose an area."
            )
        middle = (polygon.min(0) + polygon.max(0)) / 2 / size
        if middle.min() < -MARGIN or middle.max() > 1 + MARGIN:
            raise ValueError(
                f"{place} lies outside of the {size[0]}x{size[1]} picture that the map counts in: it counts in pixels of another "
                "one. A map of a camera of one's own is a .json, which says its picture's size."
            )
