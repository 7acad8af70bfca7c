"""The table in docs/data.md of what readers accept, whose rows have a test each, and small data for those tests."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lkd.datamodules import RGBThermalFolder, YoloFolder

DOCS = Path(__file__).parents[1] / "docs" / "data.md"
HERE = [0.1, 0.1, 0.3, 0.6]  # where `thing` is


class Table:
    """The rows of some sections; `row` marks a test, and `left` are those without one."""

    def __init__(self, *sections):
        text = DOCS.read_text().partition("## What the readers accept")[2].partition("\n## ")[0]
        parts = re.split(r"^\| \*\*(.+?)\*\*.*$", text, flags=re.M)
        found = dict(zip(parts[1::2], parts[2::2], strict=True))
        self.left = {
            row for name in sections for row in re.findall(r"^\| (.+?) \| .+ \|$", found[name], re.M)
        }

    def row(self, start):
        """Marks the test of the one row that begins so."""
        (one,) = [row for row in self.left if row.startswith(start)]
        self.left.remove(one)
        return lambda test: test


def picture(path, size=(64, 48), **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 30)).save(path, **kwargs)
    return path


def folder(root, text="0 0.5 0.5 0.2 0.2\n", count=4, images="images", labels="labels", name="cam_{}.png"):
    """`count` pictures, each with the label file `text`: str or bytes."""
    for number in range(count):
        path = picture(root / images / name.format(number))
        label = root / labels / f"{path.stem}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def heard(make):
    """What `make` returns, and the warnings of it."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = make()
    return found, " ".join(str(one.message) for one in said if "left out" in str(one.message))


def read(root, **kwargs):
    """Boxes (as lists, to four digits) and labels of the first frame, and what was said."""

    def make():
        data = YoloFolder(str(root), **kwargs)
        return data.annotate(data.frames())

    frames, said = heard(make)
    boxes = [[round(value, 4) for value in box] for box in frames[0].boxes.tolist()]
    return boxes, frames[0].labels.tolist(), said


def refused(make, message, error=ValueError):
    with pytest.raises(error, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def refuses(root, texts, message, **kwargs):
    """Each of the texts is refused, with the file and its second line."""
    for text in texts:
        folder(root, f"0 .5 .5 .1 .1\n{text}\n")
        refused(lambda: read(root, **kwargs), rf"labels/cam_0\.txt, line 2: .*{message}")


def pair(root, text, name="a.xml", size=(200, 100), count=1, **kwargs):
    """Boxes (normalized) and labels of a thermal frame with the label file `text`, and what was said."""
    for number in range(count):
        for sensor in ("rgb", "ir"):
            picture(root / sensor / f"{number}.png", size)
        label = root / "labels" / f"{number}{Path(name).suffix}"
        label.parent.mkdir(exist_ok=True)
        label.write_text(text)

    def make():
        options = {"visible": "rgb/{frame}.png", "thermal": "ir/{frame}.png", "camera": "c", **kwargs}
        data = RGBThermalFolder(str(root), labels="labels/{frame}" + Path(name).suffix, **options)
        return data.annotate(data.frames())

    frames, said = heard(make)
    boxes = [[round(value, 4) for value in box] for box in frames[0].boxes.tolist()]
    return boxes, frames[0].labels.tolist(), said


def thing(name="person", box="<xmin>20</xmin><ymin>10</ymin><xmax>60</xmax><ymax>60</ymax>", more=""):
    return f"<object><name>{name}</name><bndbox>{box}</bndbox>{more}</object>"


def annotation(*objects, size=(200, 100)):
    width, height = size
    return f"<annotation><size><width>{width}</width><height>{height}</height></size>{''.join(objects)}</annotation>"


def turned(path):
    """A picture of which the upper half is white when it is upright, 40x20, stored on its side."""
    upright = np.zeros((20, 40, 3), np.uint8)
    upright[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise to see it upright
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rot90(upright).copy()).save(path, exif=exif, quality=95)
