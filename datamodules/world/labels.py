"""The text files of a world, in the formats of CNRPark-EXT."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lkd.datamodules.world.scene import occupancy
from lkd.datamodules.world.view import CameraView, number
from lkd.datamodules.world.weather import moment, weather_of
from lkd.slot_maps import SENSOR

HEADER = "camera,datetime,day,hour,image_url,minute,month,occupancy,slot_id,weather,year,occupant_changed"


def frame_stem(seed: int, name: str, index: int) -> str:
    """Returns where a frame is, without ending: `SUNNY/2015-11-12/camera1/2015-11-12_0709`."""
    at = moment(number(name), index)
    return f"{weather_of(seed, index)}/{at:%Y-%m-%d}/camera{number(name)}/{at:%Y-%m-%d_%H%M}"


def patch_name(seed: int, name: str, index: int, slot: int) -> str:
    """Returns a patch's path below PATCHES: `SUNNY/2015-11-12/camera1/S_2015-11-12_07.09_C01_184.jpg`."""
    at, camera, weather = moment(number(name), index), number(name), weather_of(seed, index)
    folder = f"{weather}/{at:%Y-%m-%d}/camera{camera}"
    return f"{folder}/{weather[0]}_{at:%Y-%m-%d_%H.%M}_C{camera:02d}_{slot}.jpg"


def write_slots(root: Path, view: CameraView) -> None:
    """Writes the slots of a camera to `cameraN.csv`."""
    rows = ["SlotId,X,Y,W,H"]
    for slot, (x0, y0, x1, y1) in zip(view.slot_ids, view.boxes, strict=True):
        x, y = round(x0 * SENSOR[0]), round(y0 * SENSOR[1])
        rows.append(f"{slot},{x},{y},{round(x1 * SENSOR[0]) - x},{round(y1 * SENSOR[1]) - y}")
    put(root / f"camera{number(view.name)}.csv", "\n".join(rows) + "\n")


def write_occupancy(root: Path, seed: int, views: Sequence[CameraView], frames: int) -> None:
    """Writes `LABELS/all.txt` and `CNRPark+EXT.csv` for frames 0..frames-1 of all cameras."""
    lines, rows = [], [HEADER]
    for view in views:
        for index in range(frames):
            at, letter = moment(number(view.name), index), weather_of(seed, index)[0]
            for slot, busy, changed in zip(view.slot_ids, *occupancy(seed, view, index), strict=True):
                patch = patch_name(seed, view.name, index, slot)
                lines.append(f"{patch} {busy}")
                rows.append(
                    f"{number(view.name):02d},{at:%Y-%m-%d_%H.%M},{at.day},{at.hour},CNR-EXT/PATCHES/{patch},"
                    f"{at.minute},{at.month},{busy},{slot},{letter},{at.year},{changed if busy else ''}"
                )
    put(root / "LABELS" / "all.txt", "\n".join(lines) + "\n")
    put(root / "CNRPark+EXT.csv", "\n".join(rows) + "\n")


def yolo_lines(boxes: NDArray[np.float64], size: tuple[int, int]) -> str:
    r"""Returns boxes xyxy in pixels (N, 4) as lines `0 cx cy w h` in shares of the picture.

    Example:
        >>> yolo_lines(np.array([[0.0, 0.0, 48.0, 90.0]]), (480, 360))
        '0 0.050000 0.125000 0.100000 0.250000\n'
    """
    shares = boxes / np.array([*size, *size])
    centers, sides = (shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]
    rows = np.concatenate([centers, sides], 1)
    return "".join(f"0 {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for x, y, w, h in rows)


def put(path: Path, text: str) -> None:
    """Writes a file in one step, so that nobody ever finds half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, newline="\n")
    part.replace(path)
