"""PKLot frames with rotated slots and car masks, as selected and annotated by the University of Padua."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from lkd.datamodules.detection import DetectionDataModule
from lkd.datamodules.files import check_folder, list_images
from lkd.datamodules.frames import Frame


def mask_boxes(path: Path) -> Tensor:
    """Boxes (N, 4) xyxy normalised of a mask: one for each connected component (8 neighbours) of a class.

    Masks hold 0 background, 1 parked car, 2 car elsewhere. Cars that touch in the picture share a component
    and thus a box; a car behind a pole or another car may be two.
    """
    with Image.open(path) as image:
        mask = np.asarray(image.convert("RGB"))[..., 0]
    height, width = mask.shape
    boxes = []
    for value in (1, 2):
        components, _ = ndimage.label(mask == value, structure=np.ones((3, 3)))
        for rows, columns in ndimage.find_objects(components):
            boxes.append(
                [columns.start / width, rows.start / height, columns.stop / width, rows.stop / height]
            )
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def read_slots(path: Path) -> list[tuple[list[tuple[float, float]], bool]]:
    """The slots of a PKLot XML file: contour points (x, y) in pixels, and whether the slot is occupied."""
    slots = []
    for space in ElementTree.parse(path).getroot().iter("space"):
        points = [(float(point.get("x", 0)), float(point.get("y", 0))) for point in space.iter("point")]
        slots.append((points, space.get("occupied") == "1"))
    return slots


class PKLot(DetectionDataModule):
    """`root/<sequence>/{frames,bounding_boxes,masks}`, one class (car).

    Boxes are not drawn tightly round cars in this set; two makeshifts are offered. `"masks"`: the components
    of the car masks, tight, but touching cars count as one (in the sample 103 boxes for 99 busy slots and
    one car elsewhere); a frame without mask is unlabelled and left out where labels are needed. `"slots"`:
    the axis-aligned box round the contour of each busy rotated slot, larger than the car; cars outside slots
    are missing.

    Args:
        root: folder that holds the sequences.
        targets: "masks" or "slots".
        **kwargs: see `DetectionDataModule`.

    Raises:
        FileNotFoundError: if there are no frames, or a slot file is missing.
        ValueError: for an unknown `targets`.
    """

    def __init__(
        self, root: str = "data/pklot", targets: Literal["masks", "slots"] = "masks", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if targets not in ("masks", "slots"):
            raise ValueError(f"targets={targets!r} must be 'masks' or 'slots'.")
        self.root, self.targets = Path(root), targets

    def frames(self) -> list[Frame]:
        """All frames; the camera is the parking's id in the XML, so sequences may share a camera."""
        frames = []
        for folder in sorted(check_folder(self.root, "PKLot's <sequence>/frames").glob("*/frames")):
            for path in list_images(folder):
                xml = folder.parent / "bounding_boxes" / f"{path.stem}.xml"
                frames.append(Frame(path, _camera(xml) if xml.is_file() else folder.parent.name, path.stem))
        if not frames:
            raise FileNotFoundError(
                f"{self.root} holds no frames: put PKLot's <sequence>/frames/*.jpg there."
            )
        return frames

    def annotate(self, frames: list[Frame]) -> list[Frame]:
        """Reads masks or slots; leaves out frames without a mask."""
        labelled = []
        for frame in frames:
            sequence, name = frame.path.parent.parent, frame.path.stem
            if self.targets == "slots":
                boxes = _slot_boxes(sequence / "bounding_boxes" / f"{name}.xml", frame.path)
            elif (mask := sequence / "masks" / f"{name}.png").is_file():
                boxes = mask_boxes(mask)
            else:
                continue
            labelled.append(replace(frame, boxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.int64)))
        return labelled


def _camera(xml: Path) -> str:
    """The id of the parking, the first thing in the file."""
    try:
        return ElementTree.parse(xml).getroot().get("id") or xml.parent.parent.name
    except ElementTree.ParseError as error:
        raise ValueError(f"{xml} is damaged: {error}.") from error


def _slot_boxes(xml: Path, picture: Path) -> Tensor:
    """Axis-aligned boxes (N, 4) xyxy normalised of the busy slots."""
    if not xml.is_file():
        raise FileNotFoundError(f"the slot file {xml} of {picture} is missing.")
    with Image.open(picture) as image:
        scale = torch.tensor([*image.size, *image.size], dtype=torch.float32)
    contours = [torch.tensor(points) for points, busy in read_slots(xml) if busy]
    boxes = [torch.cat([points.amin(0), points.amax(0)]) for points in contours]
    return torch.stack(boxes) / scale if boxes else torch.zeros(0, 4)
