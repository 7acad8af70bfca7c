"""The files of CNRPark-EXT, as released, nested, gzipped, or written by the parking world."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lkd.datamodules.files import find, is_image, read_rows, read_text
from lkd.datamodules.frames import Frame
from lkd.datamodules.labelled_boxes import check_box
from lkd.datamodules.left_out import LeftOut
from lkd.picture_files import is_hidden

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


def full_frames(root: Path, left_out: LeftOut | None = None) -> list[Frame]:
    """The frames below the largest `FULL_IMAGE_<W>x<H>/`, without boxes; empty if there is none."""
    folders = find(root, ["FULL_IMAGE_*"])
    folders.sort(key=lambda folder: [int(side) for side in re.findall(r"\d+", folder.name)])
    frames = []
    for path in sorted(folders[-1].glob("*/*/camera*/*")) if folders else ():
        if is_hidden(path.relative_to(folders[-1])) or not is_image(path, left_out):
            continue
        if match := _FRAME.search(path.as_posix()):
            weather, camera, day, hour, minute = match.groups()
            frames.append(Frame(path, f"C{int(camera)}", f"{day}T{hour}:{minute}", weather.lower()))
        elif left_out is not None:
            left_out.add("pictures of other names than <WEATHER>/<DATE>/camera<N>/<DATE>_<HHMM>.jpg", path)
    return frames


def slot_boxes(root: Path) -> dict[str, dict[int, Tensor]]:
    """Per camera the boxes (4,) xyxy normalised of its slots, from `cameraN.csv` (`SlotId,X,Y,W,H`)."""
    return {
        f"C{int(path.stem.removeprefix('camera'))}": _boxes_of_camera(path)
        for path in find(root, ["camera[0-9]*.csv"])
    }


def _boxes_of_camera(path: Path) -> dict[int, Tensor]:
    boxes: dict[int, Tensor] = {}
    for place, row in read_rows(path, ("SlotId", *"XYWH")):
        try:
            slot, (x, y, w, h) = int(row["SlotId"]), (float(row[name]) for name in "XYWH")
        except ValueError as error:
            raise ValueError(f"{place}: SlotId, X, Y, W and H must be numbers.") from error
        box = torch.tensor([x, y, x + w, y + h]) / torch.tensor([*SENSOR, *SENSOR])
        check_box(box.tolist(), f"{place} (in a {SENSOR[0]}x{SENSOR[1]} picture)")
        if w == 0 or h == 0:
            raise ValueError(f"{place}: the box has no area.")
        if slot in boxes:
            raise ValueError(f"{place}: slot {slot} has a box already.")
        boxes[slot] = box
    return boxes


def read_patches(path: Path, left_out: LeftOut | None = None) -> list[Patch]:
    """Reads a list of labelled patches: lines `<patch> <0 or 1>`, or the official CSV, also gzipped.

    1 is busy. Lists with the labels inverted have been seen in public; nothing in a list tells, so take the
    official ones. Rows of CNRPark A and B (other slots, other cameras) and repeated lines are passed over and counted.

    Raises:
        ValueError: for a line of another form, or two of one patch that differ; the message names file and line.
    """
    left_out = LeftOut() if left_out is None else left_out
    patches: dict[str, Patch] = {}
    for place, name, state in _labelled(path):
        if (match := _PATCH.search(name)) and state in ("0", "1"):
            weather, day, hour, minute, camera, slot = match.groups()
            time = f"{day}T{hour}:{minute}"
            patch = Patch(match[0], f"C{int(camera)}", time, weather.lower(), int(slot), int(state))
            if patches.setdefault(patch.path, patch) is not patch:
                if patches[patch.path].label != patch.label:
                    raise ValueError(f"{place}: {patch.path} is both free and busy.")
                left_out.add("repeated lines", place)
        elif re.search(r"(^|/)[AB]/(free|busy)/", name):
            left_out.add("patches of CNRPark A and B, which are other slots", place)
        else:
            raise ValueError(
                f"{place}: '{name} {state}' is not `<WEATHER>/<DATE>/camera<N>/<patch>.jpg <0 or 1>`."
            )
    return list(patches.values())


def _labelled(path: Path) -> Iterator[tuple[str, str, str]]:
    """Of every patch of a list the file and line, its name, and its label as it is written."""
    text = read_text(path)
    if text.startswith("camera,"):
        for place, row in read_rows(path, ("image_url", "occupancy")):
            yield place, row["image_url"], row["occupancy"].strip()
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            name, *state = line.strip().rsplit(maxsplit=1)
            yield f"{path}, line {number}", name, " ".join(state)


def busy_boxes(root: Path, left_out: LeftOut | None = None) -> dict[tuple[str, str], Tensor]:
    """Boxes (N, 4) xyxy normalised of the busy slots, for every (camera, time) with any labelled slot.

    Raises:
        FileNotFoundError: if there is no list that says which slots are busy, or no `cameraN.csv`.
    """
    slots, lists = slot_boxes(root), find(root, LABEL_FILES)
    if not (slots and lists):
        missing = " or ".join(LABEL_FILES) if slots else "camera1.csv"
        raise FileNotFoundError(f"{root} holds no {missing}: without it there are no busy slots.")
    busy: dict[tuple[str, str], list[Tensor]] = {}
    for patch in read_patches(lists[0], left_out):
        if patch.slot in slots.get(patch.camera, {}):
            boxes = busy.setdefault((patch.camera, patch.time), [])
            boxes += [slots[patch.camera][patch.slot]] * patch.label
        elif left_out is not None:
            left_out.add("labelled slots of which cameraN.csv has no box", patch.path)
    return {key: torch.stack(boxes) if boxes else torch.zeros(0, 4) for key, boxes in busy.items()}


def label_file(root: Path, frame: Frame) -> Path:
    """The file with a frame's tight boxes: `boxes/<WEATHER>/<DATE>/camera<N>/<name>.txt`."""
    return root / "boxes" / frame.path.relative_to(frame.path.parents[3]).with_suffix(".txt")
