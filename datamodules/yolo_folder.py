"""A folder of pictures with YOLO labels, the camera and the time in the file names."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from lkd.datamodules.detection import DetectionDataModule
from lkd.datamodules.files import check_folder, list_images, read_yolo
from lkd.datamodules.frames import Frame

VEHICLE = {0: 0, 1: 0, 2: 0}  # car, bus and truck as one class


class YoloFolder(DetectionDataModule):
    """Pictures `root/images/<camera>_<number>.jpg` with labels `root/labels/<camera>_<number>.txt`.

    A line of a label file is an object: `class x y w h`, centre and size normalised.

    The camera is the file name up to the last underscore, the rest is the time in natural order:
    `cam1_road_9.jpg` comes before `cam1_road_10.jpg`. An empty label file is a frame without objects; a
    missing one is an error wherever labels are needed.

    Args:
        root: folder that holds `images/` and `labels/`.
        class_map: class in the files -> class here; objects of other classes are ignored. The default makes
            one class, vehicle, of car (0), bus (1) and truck (2); `None` keeps all classes.
        **kwargs: see `DetectionDataModule`.

    Raises:
        FileNotFoundError: if the folder, or a label file that is needed, is missing.
        ValueError: for a file name without an underscore, or a damaged label file.
    """

    def __init__(
        self, root: str = "data/traffic_cams", class_map: dict[int, int] | None = VEHICLE, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.class_map = Path(root), class_map

    def frames(self) -> list[Frame]:
        """All pictures, without their labels."""
        frames = []
        for path in list_images(check_folder(self.root / "images", "the pictures <camera>_<number>.jpg")):
            camera, underscore, number = path.stem.rpartition("_")
            if not (camera and underscore):
                raise ValueError(
                    f"{path} has no camera in its name; it must read <camera>_<number>{path.suffix}."
                )
            # padded so that it sorts in time as plain text, too
            frames.append(Frame(path, camera, re.sub(r"\d+", lambda digits: digits[0].zfill(12), number)))
        if not frames:
            raise FileNotFoundError(f"{self.root / 'images'} holds no picture (.jpg, .png).")
        return frames

    def annotate(self, frames: list[Frame]) -> list[Frame]:
        """Reads the label file of every frame."""
        labelled = []
        for frame in frames:
            boxes, labels = read_yolo(self.root / "labels" / f"{frame.path.stem}.txt", self.class_map)
            labelled.append(replace(frame, boxes=boxes, labels=labels))
        return labelled
