"""Boxes of COCO's annotations: `bbox` in pixels of the listed size, checked one by one and all together."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from lkd.datamodules.detection.formats.coco_file import CocoFile, Entry, Listed, key_of
from lkd.datamodules.detection.formats.labeled_boxes import TOLERANCE, LabeledBoxes
from lkd.datamodules.io.left_out import LeftOut

Size = tuple[float, float]  # width and height


class Objects(NamedTuple):
    """Objects that a file lists for a picture."""

    boxes: Tensor  # (N, 4) float32 xyxy normalized to [0, 1]
    labels: Tensor  # (N,) int64
    ignored: int  # crowds and regions to ignore


def listed_size(picture: Listed) -> Size | None:
    """Returns the (width, height) that the file lists for a picture, in pixels of which its boxes are.

    It is `None` if the file lists none.

    Raises:
        ValueError: if one of them is not above 0; the message names file and entry.
    """
    given: list[Any] = [picture.entry.get(name) for name in ("width", "height")]
    if given == [None, None]:
        return None
    try:
        width, height = (float(one) for one in given)
    except (TypeError, ValueError):
        width = height = 0.0
    if not (0 < width < float("inf") and 0 < height < float("inf")):
        raise ValueError(f"{picture.place}: width={given[0]!r} and height={given[1]!r} must be above 0.")
    return width, height


class CocoBoxes:
    """Reader of the objects of pictures, which checks at the end whether all boxes together can be in pixels.

    Args:
        classes: name of a category -> class here; objects of other categories are left out.
        left_out: counter of these objects, boxes without area, repeated ones, crowds, and parts beyond the
            picture's edge.
    """

    def __init__(self, classes: Mapping[str, int], left_out: LeftOut) -> None:
        self.classes, self.left_out = classes, left_out
        self._count = self._hanging = 0
        self._reach = 0.0  # how far right or down the furthest box reaches, in pixels
        self._first = ""

    def read(self, file: CocoFile, picture: Listed, size: Size) -> Objects:
        """Reads the objects of one picture.

        Args:
            file: the file that lists the picture.
            picture: the picture whose objects are read.
            size: (width, height) of the picture; boxes are in its pixels.

        Raises:
            ValueError: for a category that the file does not have, or an impossible box; the message names
                file and entry.
        """
        found, ignored = LabeledBoxes(self.left_out), 0
        for one in picture.objects:
            place = f"{picture.file}, annotation {one.get('id')!r} of {picture.name}"
            category = file.categories.get(key_of(one.get("category_id")))
            if category is None:
                raise ValueError(f"{place}: the file has no category with the id {one.get('category_id')!r}.")
            if any([_flag(one, name, place) for name in ("iscrowd", "ignore")]):
                self.left_out.add("crowds and regions to ignore", place)
                ignored += 1
                continue
            x, y, w, h = _bbox(one, place)
            box = x / size[0], y / size[1], (x + w) / size[0], (y + h) / size[1]
            found.add(box, self.classes.get(category["name"]), category["name"], place)
            self._note(box, max(x + w, y + h), place)
        return Objects(*found.tensors(), ignored)

    def _note(self, box: tuple[float, ...], reach: float, place: str) -> None:
        self._count, self._reach = self._count + 1, max(self._reach, reach)
        self._first = self._first or place
        if min(box) < -TOLERANCE or max(box) > 1 + TOLERANCE:
            self._hanging += 1

    def check(self) -> None:
        """Checks that the boxes, taken together, are x, y, w, h in pixels; raises ValueError otherwise."""
        if self._count and self._reach <= 1:
            raise ValueError(
                f"{self._first}: no box is larger than a pixel; bbox must be in pixels, not shares."
            )
        if 2 * self._hanging > self._count:
            raise ValueError(
                f"{self._first}: {self._hanging} of {self._count} boxes reach beyond their pictures; bbox must be x, y, w, h "
                "(not two corners), in pixels of the `width` and `height` of their image."
            )


def _flag(one: Entry, name: str, place: str) -> bool:
    value = one.get(name) or 0
    if value not in (0, 1):
        raise ValueError(f"{place}: {name}={value!r} must be 0 or 1.")
    return bool(value)


def _bbox(one: Entry, place: str) -> tuple[float, float, float, float]:
    """Returns the `bbox`, or the upright box around the polygons of an object without one."""
    given: Any = one.get("bbox")
    try:
        if not given and isinstance(one.get("segmentation"), list) and one["segmentation"]:
            flat = [[float(value) for value in polygon] for polygon in one["segmentation"]]
            xs, ys = [v for p in flat for v in p[0::2]], [v for p in flat for v in p[1::2]]
            return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
        x, y, w, h = (float(value) for value in given)
    except (TypeError, ValueError) as error:
        shape = type(one.get("segmentation")).__name__
        raise ValueError(
            f"{place}: bbox={given!r} is not four numbers x, y, w, h (and its segmentation, a {shape}, no list of polygons)."
        ) from error
    return x, y, w, h
