"""The files of CNRPark-EXT, as released, nested, gzipped, or written by the parking world."""

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lkd.datamodules.files import IMAGES, find, read_lines
from lkd.datamodules.frames import Frame

SENSOR = (2592, 1944)  # cameraN.csv counts in pixels of this picture, whatever the size of the frames
LABEL_FILES = (
    "LABELS/all.txt",
    "all.txt",
    "LABELS/all*.txt.gz",
    "all*.txt.gz",
    "CNRPark+EXT.csv",
    "CNRPark+EXT*.csv.gz",
)


def official_list(part: str) -> tuple[str, str]:
    """Where the official list "train", "val" or "test" of patches may be."""
    return f"splits/CNRPark-EXT/{part}.txt", f"LABELS/{part}.txt"


# frame names have no dot in the time (2015-11-12_0709.jpg), patch names have one
# (S_2015-11-12_07.09_C01_184.jpg)
_FRAME = re.compile(r"(SUNNY|OVERCAST|RAINY)/[\d-]+/camera(\d+)/(\d{4}-\d\d-\d\d)_(\d\d)\.?(\d\d)\.\w+$")
_PATCH = re.compile(
    r"(SUNNY|OVERCAST|RAINY)/[\d-]+/camera\d+/[SOR]_(\d{4}-\d\d-\d\d)_(\d\d)\.?(\d\d)_C(\d+)_(\d+)\.\w+"
)


class Patch(NamedTuple):
    """One slot at one time in one camera."""

    path: str  # below PATCHES/
    camera: str
    time: str
    weather: str
    slot: int
    label: int  # 0 free, 1 busy


def full_frames(root: Path) -> list[Frame]:
    """The frames below the largest `FULL_IMAGE_<W>x<H>/`, without boxes; empty if there is none."""
    folders = find(root, ["FULL_IMAGE_*"])
    folders.sort(key=lambda folder: [int(side) for side in re.findall(r"\d+", folder.name)])
    frames = []
    for path in sorted(folders[-1].glob("*/*/camera*/*")) if folders else ():
        if path.suffix.lower() in IMAGES and (match := _FRAME.search(path.as_posix())):
            weather, camera, day, hour, minute = match.groups()
            frames.append(Frame(path, f"C{int(camera)}", f"{day}T{hour}:{minute}", weather.lower()))
    return frames


def slot_boxes(root: Path) -> dict[str, dict[int, Tensor]]:
    """Per camera the boxes (4,) xyxy normalised of its slots, from `cameraN.csv` (`SlotId,X,Y,W,H`)."""
    cameras = {}
    for path in find(root, ["camera[0-9]*.csv"]):
        boxes = {}
        for row in csv.DictReader(read_lines(path)):
            x, y, w, h = (float(row[name]) for name in "XYWH")
            boxes[int(row["SlotId"])] = torch.tensor([x, y, x + w, y + h]) / torch.tensor([*SENSOR, *SENSOR])
        cameras[f"C{int(path.stem.removeprefix('camera'))}"] = boxes
    return cameras


def read_patches(path: Path) -> list[Patch]:
    """Reads a list of labelled patches: lines `<patch> <0 or 1>`, or the official CSV, also gzipped.

    1 is busy. Lists with the labels inverted have been seen in public; nothing in a list tells, so take the
    official ones. Rows of CNRPark A and B (other slots, other cameras) are passed over.

    Raises:
        ValueError: for a line of another form; the message names it.
    """
    lines = read_lines(path)
    if lines and lines[0].startswith("camera,"):
        pairs: Iterable[Sequence[str]] = [
            (row["image_url"], row["occupancy"]) for row in csv.DictReader(lines)
        ]
    else:
        pairs = [line.rsplit(maxsplit=1) for line in lines]
    patches = []
    for pair in pairs:
        if (match := _PATCH.search(pair[0])) and len(pair) == 2 and pair[1] in ("0", "1"):
            weather, day, hour, minute, camera, slot = match.groups()
            time = f"{day}T{hour}:{minute}"
            patches.append(Patch(match[0], f"C{int(camera)}", time, weather.lower(), int(slot), int(pair[1])))
        elif not re.search(r"(^|/)[AB]/(free|busy)/", pair[0]):
            raise ValueError(
                f"{path}: {' '.join(pair)!r} is not `<WEATHER>/<DATE>/camera<N>/<patch>.jpg <0 or 1>`."
            )
    return patches


def busy_boxes(root: Path) -> dict[tuple[str, str], Tensor]:
    """Boxes (N, 4) xyxy normalised of the busy slots, for every (camera, time) with any labelled slot.

    Raises:
        FileNotFoundError: if there is no list that says which slots are busy, or no `cameraN.csv`.
    """
    slots, lists = slot_boxes(root), find(root, LABEL_FILES)
    if not (slots and lists):
        missing = " or ".join(LABEL_FILES) if slots else "camera1.csv"
        raise FileNotFoundError(f"{root} holds no {missing}: without it there are no busy slots.")
    busy: dict[tuple[str, str], list[Tensor]] = {}
    for patch in read_patches(lists[0]):
        if patch.slot in slots.get(patch.camera, {}):
            boxes = busy.setdefault((patch.camera, patch.time), [])
            boxes += [slots[patch.camera][patch.slot]] * patch.label
    return {key: torch.stack(boxes) if boxes else torch.zeros(0, 4) for key, boxes in busy.items()}


def label_file(root: Path, frame: Frame) -> Path:
    """The file with a frame's tight boxes: `boxes/<WEATHER>/<DATE>/camera<N>/<name>.txt`."""
    return root / "boxes" / frame.path.relative_to(frame.path.parents[3]).with_suffix(".txt")
