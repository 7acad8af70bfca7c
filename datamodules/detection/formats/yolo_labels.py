"""Label files in YOLO format: boxes, polygons, oriented boxes and poses, each read as an upright box."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from lkd.datamodules.detection.formats.labeled_boxes import TOLERANCE, LabeledBoxes
from lkd.datamodules.io.left_out import LeftOut
from lkd.text_files import read_text

FORM = "is not `class x y w h`"


def read_yolo(
    path: Path,
    class_map: dict[int, int] | None = None,
    names: Sequence[str] = (),
    keypoints: int = 0,
    polygons: bool = False,
    left_out: LeftOut | None = None,
) -> tuple[Tensor, Tensor]:
    """Reads a YOLO label file: one line for each object, numbers as shares of the picture's width and height.

    A line is `class x y w h` (center and size). What follows a `#` is a comment. Repeated lines and boxes
    without area are dropped and counted, and boxes are clipped to the picture.

    Args:
        path: the text file; an empty one is a frame without objects.
        class_map: class in the file -> class here; other classes are left out and counted. `None` keeps all
            as they are.
        names: names of the classes, if they are known; a class beyond them is an error.
        keypoints: how many numbers of keypoints follow each box in a file of poses; they are not read.
        polygons: whether a line may also be a class with the corners of a polygon or oriented box, `class x1
            y1 x2 y2 x3 y3 ...`, whose upright box is taken. A line of a pose or a tracked box can look the
            same, so by default this is an error.
        left_out: counter of what is dropped.

    Returns:
        Boxes (N, 4) float32 xyxy normalized to [0, 1], and labels (N,) int64.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a line that is not of this form, or that lies outside the picture; the message names
            file and line.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"the label file {path} is missing; write an empty file for a frame without objects."
        )
    found = LabeledBoxes(LeftOut() if left_out is None else left_out)
    for number, raw in enumerate(read_text(path).splitlines(), 1):
        if not (words := raw.partition("#")[0].split()):
            continue
        place = f"{path}, line {number}: {_short(raw)}"
        try:
            first, *numbers = map(float, words)
        except ValueError as error:
            raise ValueError(f"{place} {FORM}.") from error
        name = _class(first, names, place)
        row = (first, *numbers)
        if keypoints and len(numbers) == 4 + keypoints:
            numbers = numbers[:4]
        label = name if class_map is None else class_map.get(name)
        known = f"{name} ({names[name]})" if names else str(name)
        found.add(_box(numbers, polygons, place), label, known, place, row)
    return found.tensors()


def _class(number: float, names: Sequence[str], place: str) -> int:
    """Returns the class, which some converters write as 0.0."""
    if number < 0 or not number.is_integer():
        raise ValueError(f"{place} has no class: the first number must be 0, 1, 2, ...")
    if names and number >= len(names):
        raise ValueError(
            f"{place} is of class {number:.0f}, but there are names of {len(names)} (from 0) only."
        )
    return int(number)


def _box(numbers: list[float], polygons: bool, place: str) -> list[float]:
    """Returns the upright box x1, y1, x2, y2 from a line's numbers after the class."""
    if len(numbers) == 4:
        if max(numbers) > 1 + TOLERANCE:
            raise ValueError(
                f"{place} has a number above 1: they must be shares of the picture's width and height, not pixels."
            )
        x, y, w, h = numbers
        return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    if len(numbers) == 5:
        raise ValueError(
            f"{place} has a number after `class x y w h`, as predictions have their score: labels must be without."
        )
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(f"{place} {FORM}.")
    if not polygons:
        raise ValueError(
            f"{place} {FORM}, but has {len(numbers)} numbers after the class: if they are the corners of a polygon or oriented "
            "box, set polygons=True of YoloFolder to take its upright box."
        )
    if not all(-TOLERANCE <= value <= 1 + TOLERANCE for value in numbers):
        raise ValueError(
            f"{place} has a point outside the picture: numbers must be shares of its width and height, 0 to 1."
        )
    xs, ys = numbers[::2], numbers[1::2]
    return [min(xs), min(ys), max(xs), max(ys)]


def _short(line: str) -> str:
    """Shortens a line for messages, since polygons are long."""
    line = line.strip()
    return repr(line if len(line) <= 60 else f"{line[:57]}...")
