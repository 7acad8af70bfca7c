"""The files of CNRPark-EXT, as released, nested, gzipped, or written by the parking world."""

import re
from pathlib import Path

import torch
from torch import Tensor

from lkd.datamodules.detection.formats.labeled_boxes import check_box
from lkd.datamodules.detection.frames import CameraFrame
from lkd.datamodules.io.files import find, is_image
from lkd.datamodules.io.left_out import LeftOut
from lkd.picture_files import is_hidden
from lkd.slot_labels import read_patches
from lkd.slot_maps import SENSOR, read_camera

LABEL_FILES = (
    "LABELS/all.txt",
    "all.txt",
    "LABELS/all*.txt.gz",
    "all*.txt.gz",
    "CNRPark+EXT.csv",
    "CNRPark+EXT*.csv.gz",
)


def official_list(part: str) -> tuple[str, str]:
    """Returns where the official list "train", "val" or "test" of patches may be."""
    return f"splits/CNRPark-EXT/{part}.txt", f"LABELS/{part}.txt"


# no dot in the time (2015-11-12_0709.jpg), which names of patches have
_FRAME = re.compile(r"(SUNNY|OVERCAST|RAINY)/[\d-]+/camera(\d+)/(\d{4}-\d\d-\d\d)_(\d\d)\.?(\d\d)\.\w+$")


def full_frames(root: Path, left_out: LeftOut | None = None) -> list[CameraFrame]:
    """Returns the frames below the largest `FULL_IMAGE_<W>x<H>/`, without boxes; empty if there is none."""
    folders = find(root, ["FULL_IMAGE_*"])
    folders.sort(key=lambda folder: [int(side) for side in re.findall(r"\d+", folder.name)])
    frames = []
    for path in sorted(folders[-1].glob("*/*/camera*/*")) if folders else ():
        if is_hidden(path.relative_to(folders[-1])) or not is_image(path, left_out):
            continue
        if match := _FRAME.search(path.as_posix()):
            weather, camera, day, hour, minute = match.groups()
            frames.append(CameraFrame(path, f"C{int(camera)}", f"{day}T{hour}:{minute}", weather.lower()))
        elif left_out is not None:
            left_out.add("pictures of other names than <WEATHER>/<DATE>/camera<N>/<DATE>_<HHMM>.jpg", path)
    return frames


def slot_boxes(root: Path) -> dict[str, dict[int, Tensor]]:
    """Reads the normalized boxes (4,) xyxy of each camera's slots in `cameraN.csv` (`SlotId,X,Y,W,H`)."""
    return {
        f"C{int(path.stem.removeprefix('camera'))}": _boxes_of_camera(path)
        for path in find(root, ["camera[0-9]*.csv"])
    }


def _boxes_of_camera(path: Path) -> dict[int, Tensor]:
    boxes: dict[int, Tensor] = {}
    for place, slot, box in read_camera(path):
        shares = torch.tensor(box) / torch.tensor([*SENSOR, *SENSOR])
        check_box(shares.tolist(), f"{place} (in a {SENSOR[0]}x{SENSOR[1]} picture)")
        boxes[slot] = shares
    return boxes


def busy_boxes(root: Path, left_out: LeftOut | None = None) -> dict[tuple[str, str], Tensor]:
    """Returns normalized boxes (N, 4) xyxy of the busy slots, for each (camera, time) with a labeled slot.

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
            left_out.add("labeled slots of which cameraN.csv has no box", patch.path)
    return {key: torch.stack(boxes) if boxes else torch.zeros(0, 4) for key, boxes in busy.items()}


def label_file(root: Path, frame: CameraFrame) -> Path:
    """Returns the file with a frame's tight boxes: `boxes/<WEATHER>/<DATE>/camera<N>/<name>.txt`."""
    return root / "boxes" / frame.path.relative_to(frame.path.parents[3]).with_suffix(".txt")
