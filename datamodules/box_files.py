"""Files of labelled boxes with names of classes: Pascal VOC as XML, and bbGt as text."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import torch
from PIL import Image
from torch import Tensor

from lkd.datamodules.files import read_yolo

HEADER = "% bbGt version=3"


class Mark(NamedTuple):
    """One labelled box."""

    name: str  # of the class
    box: tuple[float, float, float, float]  # xyxy in pixels, counted from the picture's edge
    ignored: bool  # the file says that it is no object to find


class Boxes(NamedTuple):
    """What a frame's label file says."""

    boxes: Tensor  # (N, 4) float32 xyxy normalised to [0, 1]
    labels: Tensor  # (N,) int64
    ignored: int  # number of ignore regions


def read_boxes(path: Path, picture: Path, classes: Mapping[str, int], ignore: Collection[str] = ()) -> Boxes:
    """Reads a label file: `.xml` is Pascal VOC, `.txt` bbGt if it begins so, else YOLO.

    Marked ignore regions (VOC's `difficult`, bbGt's `ign`) and the names in `ignore` are no objects, but counted.
    Boxes of other names are left out.

    Args:
        path: the file.
        picture: whose size boxes in pixels refer to; a VOC file's own `<size>` comes first.
        classes: name -> class here. YOLO files have numbers: "0" is a name, and where no name is a number all keep theirs.
        ignore: names of ignore regions.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not of its format; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the label file {path} is missing.")
    size = None
    if path.suffix == ".xml":
        marks, size = read_voc(path)
    elif (text := path.read_text(encoding="utf-8")).startswith(HEADER):
        marks = read_bbgt(text, path)
    else:
        numbers = {int(name): label for name, label in classes.items() if name.isdigit()}
        return Boxes(*read_yolo(path, numbers or None), 0)
    if size is None:
        with Image.open(picture) as image:  # the header alone
            size = image.size
    regions = [mark.ignored or mark.name in ignore for mark in marks]
    kept = [m for m, region in zip(marks, regions, strict=True) if not region and m.name in classes]
    boxes = torch.tensor([mark.box for mark in kept], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([classes[mark.name] for mark in kept], dtype=torch.int64)
    return Boxes(boxes / torch.tensor([*size, *size]), labels, sum(regions))


def read_voc(path: Path) -> tuple[list[Mark], tuple[int, int] | None]:
    """The marks of a Pascal VOC file, and the picture's (width, height) if it says that.

    `<bndbox>` has xmin, ymin, xmax, ymax, or x, y, w, h as KAIST has it; all are taken as they are (VOC itself counts
    from 1, the sets read here do not seem to).

    Raises:
        ValueError: for a damaged file, or an object without name or box.
    """
    try:
        root = ElementTree.parse(path).getroot()
        size = int(root.findtext("size/width", "0")), int(root.findtext("size/height", "0"))
        return [_voc_mark(one) for one in root.iter("object")], size if min(size) > 0 else None
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error


def _voc_mark(one: ElementTree.Element) -> Mark:
    name, box = (one.findtext("name") or "").strip(), one.find("bndbox")
    numbers = {} if box is None else {part.tag: float(part.text or "nan") for part in box}
    if name and {"xmin", "ymin", "xmax", "ymax"} <= numbers.keys():
        corners = numbers["xmin"], numbers["ymin"], numbers["xmax"], numbers["ymax"]
    elif name and {"x", "y", "w", "h"} <= numbers.keys():
        x, y = numbers["x"], numbers["y"]
        corners = x, y, x + numbers["w"], y + numbers["h"]
    else:
        raise ValueError("an object has no <name>, or no <bndbox> of xmin, ymin, xmax, ymax")
    return Mark(name, corners, (one.findtext("difficult") or "").strip() == "1")


def read_bbgt(text: str, path: Path) -> list[Mark]:
    r"""The marks of a bbGt file of Dollar's toolbox: lines `name x y w h occ vx vy vw vh ign ang` after the header.

    Example:
        >>> read_bbgt("% bbGt version=3\nperson 10 20 30 40 0 0 0 0 0 1 0", Path("a.txt"))
        [Mark(name='person', box=(10.0, 20.0, 40.0, 60.0), ignored=True)]
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
        marks.append(Mark(words[0], (x, y, x + w, y + h), len(words) > 10 and words[10] == "1"))
    return marks
