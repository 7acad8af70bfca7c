"""Files of labeled boxes with names of classes: Pascal VOC as XML, and bbGt as text."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from torch import Tensor

from lkd.datamodules.detection.formats.labeled_boxes import LabeledBoxes
from lkd.datamodules.detection.formats.yolo_labels import read_yolo
from lkd.datamodules.io.left_out import LeftOut
from lkd.pictures import image_size
from lkd.text_files import read_text

HEADER = "% bbGt version=3"
CORNERS, SIZED = ("xmin", "ymin", "xmax", "ymax"), ("x", "y", "w", "h")
MARKED = {"": False, "0": False, "false": False, "1": True, "true": True}  # what tools write for <difficult>


class Mark(NamedTuple):
    """One labeled box of a file."""

    name: str  # name of the class
    box: tuple[float, float, float, float]  # xyxy in pixels, counted from the picture's edge
    ignored: bool  # the file says that this is no object to find
    place: str  # file and line or object, for messages


class FrameLabels(NamedTuple):
    """Boxes, labels and ignore regions of a frame's label file."""

    boxes: Tensor  # (N, 4) float32 xyxy normalized to [0, 1]
    labels: Tensor  # (N,) int64
    ignored: int  # number of ignore regions


def read_boxes(
    path: Path,
    picture: Path,
    classes: Mapping[str, int],
    ignore: Collection[str] = (),
    left_out: LeftOut | None = None,
) -> FrameLabels:
    """Reads a label file: `.xml` is Pascal VOC, `.txt` bbGt if it begins so, else YOLO.

    Marked ignore regions (VOC's `difficult`, bbGt's `ign`) and the names in `ignore` are no objects, but are
    counted. Boxes of other names, repeated ones and those without area are left out; boxes are clipped to the
    picture.

    Args:
        path: the label file.
        picture: the picture whose size boxes in pixels refer to; a VOC file's own `<size>` has precedence.
        classes: name -> class here. YOLO files have numbers: "0" is a name, and if no name is a number, all
            numbers stay.
        ignore: names of ignore regions.
        left_out: counter of what is left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not of its format, or a box does not lie in the picture; the message names
            the place.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the label file {path} is missing.")
    left_out, size = LeftOut() if left_out is None else left_out, None
    if path.suffix.lower() == ".xml":
        marks, size = read_voc(path)
        _check_size(path, size, picture)
    elif (text := read_text(path)).startswith(HEADER):
        marks = read_bbgt(text, path)
    else:
        numbers = {int(name): label for name, label in classes.items() if name.isdecimal()}
        return FrameLabels(*read_yolo(path, numbers or None, left_out=left_out), 0)
    width, height = size or image_size(picture)
    found, regions = LabeledBoxes(left_out), 0
    for mark in marks:
        if mark.ignored or mark.name in ignore:
            regions += 1
            continue
        x1, y1, x2, y2 = mark.box
        shares = x1 / width, y1 / height, x2 / width, y2 / height
        found.add(shares, classes.get(mark.name), mark.name, f"{mark.place} of a {width}x{height} picture")
    return FrameLabels(*found.tensors(), regions)


def read_voc(path: Path) -> tuple[list[Mark], tuple[int, int] | None]:
    """Reads the marks of a Pascal VOC file, and the picture's (width, height) if the file has them.

    `<bndbox>` has xmin, ymin, xmax, ymax, or x, y, w, h as in KAIST. All are taken as they are: VOC itself
    counts from 1, but the sets read here do not seem to.

    Raises:
        ValueError: for a damaged file, one of another kind of XML, or an object without name or box.
    """
    try:
        root = ElementTree.parse(path).getroot()
        if root.tag != "annotation":
            raise ValueError(f"it is no Pascal VOC file, but a <{root.tag}>, where <annotation> must be")
        if strange := {one.tag for one in root if one.tag.lower().startswith("object")} - {"object"}:
            raise ValueError(f"<{strange.pop()}> must be <object>")
        width, height = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    except (
        ElementTree.ParseError,
        LookupError,
        ValueError,
        OverflowError,
    ) as error:  # LookupError: an unknown encoding
        raise ValueError(f"{path} is damaged: {error}.") from error
    marks = [_voc_mark(one, f"{path}, object {number}") for number, one in enumerate(root.iter("object"), 1)]
    return marks, (width, height) if min(width, height) > 0 else None


def _voc_mark(one: ElementTree.Element, place: str) -> Mark:
    name, box = (one.findtext("name") or "").strip(), one.find("bndbox")
    words = {} if box is None else {part.tag: (part.text or "").strip() for part in box}
    tags = next((tags for tags in (CORNERS, SIZED) if set(tags) <= words.keys()), None)
    if not name or tags is None:
        raise ValueError(f"{place} has no <name>, or no <bndbox> of xmin, ymin, xmax, ymax.")
    try:
        numbers = [float(words[tag]) for tag in tags]
    except ValueError as error:
        raise ValueError(f"{place} ({name}): {error}.") from error
    difficult = (one.findtext("difficult") or "").strip()
    if difficult.lower() not in MARKED:
        raise ValueError(f"{place} ({name}): <difficult>{difficult}</difficult> must be 0 or 1.")
    if tags is SIZED:
        numbers[2:] = numbers[0] + numbers[2], numbers[1] + numbers[3]
    x1, y1, x2, y2 = numbers
    return Mark(name, (x1, y1, x2, y2), MARKED[difficult.lower()], f"{place} ({name})")


def _check_size(path: Path, size: tuple[int, int] | None, picture: Path) -> None:
    """Refuses a size with width and height swapped, as of a picture that is stored on its side."""
    if size is None or size[0] == size[1]:
        return
    width, height = image_size(picture)
    rounding = max(*size, width, height)  # a scaled picture may be off by a rounding
    if abs(size[0] * width - size[1] * height) <= rounding < abs(size[0] * height - size[1] * width):
        raise ValueError(
            f"{path}: the size {size[0]}x{size[1]} is on its side, {picture} is {width}x{height} when upright (EXIF); label "
            "the upright picture, or swap width and height."
        )


def read_bbgt(text: str, path: Path) -> list[Mark]:
    r"""Reads the marks of a bbGt file: lines `name x y w h occ vx vy vw vh ign ang` after a header.

    Raises:
        ValueError: for a line that is not of this form; the message names file and line.

    Example:
        >>> read_bbgt("% bbGt version=3\nperson 10 20 30 40 0 0 0 0 0 1 0", Path("a.txt"))
        [Mark(name='person', box=(10.0, 20.0, 40.0, 60.0), ignored=True, place='a.txt, line 2 (person)')]
    """
    marks = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or line.startswith("%"):
            continue
        try:
            x, y, w, h = map(float, words[1:5])
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {line!r} is not `name x y w h ...`.") from error
        # vbb-derived files stop after the visible box; `ign` is the eleventh word
        ignored, place = len(words) > 10 and words[10] == "1", f"{path}, line {number} ({words[0]})"
        marks.append(Mark(words[0], (x, y, x + w, y + h), ignored, place))
    return marks
