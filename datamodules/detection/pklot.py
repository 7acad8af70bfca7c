"""PKLot frames with rotated slots and car masks, as selected and annotated by the University of Padua."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lkd.checks import expect
from lkd.datamodules.detection.detection_datamodule import DetectionDataModule
from lkd.datamodules.detection.formats.car_masks import cut_cars, read_mask
from lkd.datamodules.detection.formats.labeled_boxes import LabeledBoxes
from lkd.datamodules.detection.frames import CameraFrame
from lkd.datamodules.io.files import check_folder, list_images
from lkd.datamodules.io.left_out import LeftOut
from lkd.pictures import image_size
from lkd.slot_maps import parking, read_spaces

log = logging.getLogger(__name__)


def read_slots(
    path: Path, left_out: LeftOut | None = None
) -> list[tuple[list[tuple[float, float]], bool | None]]:
    """Reads the slots of a PKLot XML file: contour points (x, y) in pixels, and whether each is occupied."""
    return [(space.points, space.busy) for space in read_spaces(path, left_out)]


class PKLot(DetectionDataModule):
    """PKLot: `root/<sequence>/{frames,bounding_boxes,masks}`, one class (car).

    Boxes do not fit the cars tightly in this set, so two substitutes are offered. `"masks"` are the parts of
    the car masks: tight, and cut by the slots where cars touch (see
    `lkd.datamodules.detection.formats.car_masks.cut_cars`). Where labels are needed, frames without a mask
    are left out and counted, and so are frames with a part that is too large for one car and cannot be cut.
    `"slots"` are the axis-aligned boxes around the contours of busy rotated slots. They are larger than the
    cars, and cars outside slots are missing.

    Args:
        root: folder that holds the sequences.
        targets: "masks" or "slots".
        **kwargs: see `DetectionDataModule`.

    Raises:
        FileNotFoundError: if there are no frames, or a slot file is missing.
        ValueError: for an unknown `targets`, or a mask that does not fit its frame or has no slots to be cut
            by.
    """

    def __init__(
        self, root: str = "data/pklot", targets: Literal["masks", "slots"] = "masks", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        expect(targets=targets, among=("masks", "slots"))
        self.root, self.targets = Path(root), targets
        self._left_out = LeftOut()

    def frames(self) -> list[CameraFrame]:
        """Lists all frames; the camera is the lot's id in the XML, so sequences may share a camera."""
        frames = []
        for folder in sorted(check_folder(self.root, "PKLot's <sequence>/frames").glob("*/frames")):
            for path in list_images(folder):
                xml = folder.parent / "bounding_boxes" / f"{path.stem}.xml"
                frames.append(
                    CameraFrame(path, _camera(xml) if xml.is_file() else folder.parent.name, path.stem)
                )
        if not frames:
            raise FileNotFoundError(
                f"{self.root} holds no frames: put PKLot's <sequence>/frames/*.jpg there."
            )
        return frames

    def annotate(self, frames: list[CameraFrame]) -> list[CameraFrame]:
        """Reads masks or slots; leaves out frames without a mask of single cars, and counts them."""
        labeled, cut, joined = [], 0, 0
        for frame in frames:
            xml = frame.path.parents[1] / "bounding_boxes" / f"{frame.path.stem}.xml"
            if self.targets == "slots":
                boxes = _slot_boxes(xml, frame.path, self._left_out)
            elif not (path := frame.path.parents[1] / "masks" / f"{frame.path.stem}.png").is_file():
                self._left_out.add("frames without a mask", frame.path)
                continue
            else:
                cars = cut_cars(_mask_of(frame.path, path), _slots_of(xml, frame.path))
                cut, joined, boxes = cut + cars.cut, joined + cars.joined, cars.boxes
                if cars.uncut:
                    self._left_out.add(
                        "frames in which cars touch that stand on no two busy slots", frame.path
                    )
                    continue
            labeled.append(replace(frame, boxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.int64)))
        if cut or joined:
            log.info(
                "cut %d parts of masks in which cars touch, and joined the parts of %d cars", cut, joined
            )
        self._left_out.say(f"{type(self).__name__} in {self.root}")
        return labeled


def _camera(xml: Path) -> str:
    """Returns the id of the parking lot, the first thing in the file."""
    return parking(xml).get("id") or xml.parent.parent.name


def _slots_of(
    xml: Path, picture: Path, left_out: LeftOut | None = None
) -> list[tuple[list[tuple[float, float]], bool | None]]:
    """Reads the slots of a picture."""
    if not xml.is_file():
        raise FileNotFoundError(f"the slot file {xml} of {picture} is missing.")
    if not (slots := read_slots(xml, left_out)):
        raise ValueError(f"{xml} has no slot, so cars that touch in a mask cannot be told apart.")
    return slots


def _mask_of(picture: Path, path: Path) -> np.ndarray:
    """Reads the mask of a picture, which must have the same size."""
    mask, size = read_mask(path), image_size(picture)
    if mask.shape != size[::-1]:
        raise ValueError(
            f"the mask {path} is {mask.shape[1]}x{mask.shape[0]}, its frame {size[0]}x{size[1]}."
        )
    return mask


def _slot_boxes(xml: Path, picture: Path, left_out: LeftOut) -> Tensor:
    """Returns normalized axis-aligned boxes (N, 4) xyxy of the busy slots."""
    (width, height), found = image_size(picture), LabeledBoxes(left_out)
    for number, (points, busy) in enumerate(_slots_of(xml, picture, left_out), 1):
        xs, ys = ([point[side] / scale for point in points] for side, scale in ((0, width), (1, height)))
        if busy:
            place = f"{xml}, contour {number} in a {width}x{height} picture"
            found.add((min(xs), min(ys), max(xs), max(ys)), 0, "car", place, row=number)
    return found.tensors()[0]
