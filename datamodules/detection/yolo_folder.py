"""A folder of pictures with YOLO labels, the camera and the time in the file names."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.datamodules.detection.detection_datamodule import DetectionDataModule
from lkd.datamodules.detection.formats.yolo_labels import read_yolo
from lkd.datamodules.detection.formats.yolo_layout import YoloLayout, read_layout
from lkd.datamodules.detection.frames import CameraFrame
from lkd.datamodules.io.left_out import LeftOut
from lkd.datamodules.samples.splits import Splits, complete, pick
from lkd.natural_order import padded


class YoloFolder(DetectionDataModule):
    """Pictures `root/images/<camera>_<number>.jpg` with labels `root/labels/<camera>_<number>.txt`.

    Each line of a label file is an object: `class x y w h`, center and size normalized (see
    `lkd.datamodules.detection.formats.yolo_labels.read_yolo`).

    The camera is the file name up to the last underscore; the rest is the time, in natural order:
    `cam1_road_9.jpg` comes before `cam1_road_10.jpg`, and `cam1_road_1.25.jpg` before `cam1_road_1.5.jpg`
    (see `lkd.natural_order`). Folders below `images/` are a part of the name, so `images/cam1/9.jpg` belongs
    to camera `cam1`. An empty label file is a frame without objects; a missing one is an error wherever
    labels are needed.

    Folders `train`, `val` and `test`, or a `data.yaml` that names them, are the three parts. A missing part
    is cut in time from the part before it (see `lkd.datamodules.detection.formats.yolo_layout.read_layout`).
    So a val without a test gives half of itself to the test, with a warning; `fractions: [0.8, 0.2, 0.0]`
    keeps it whole.

    Args:
        root: folder that holds `images/` and `labels/`, or a `data.yaml`; or the `data.yaml` itself.
        class_map: class in the files -> class here; objects of other classes are left out and counted, such
            as `{0: 0, 1: 0, 2: 0}` to make one class, vehicle, of car, bus and truck. `None` keeps all
            classes.
        camera: name of the one camera of all pictures, whose whole name is then the time; `None` to take it
            from the names.
        split: "given" by folders or `data.yaml`, or "by_time" in each camera as `fractions` say; `None` for
            "given" if there are parts.
        polygons: take the upright boxes of polygons and oriented boxes, lines of a class and three or more
            points; an upright box is looser than an oriented one. They are an error otherwise, as they may
            look like poses.
        **kwargs: see `DetectionDataModule`.

    Attributes:
        names: names of the classes in the files, where `data.yaml` or `classes.txt` has them; known after
            `frames`.

    Raises:
        FileNotFoundError: if the folder, or a label file that is needed, is missing.
        ValueError: for a file name without a camera, a damaged label file, or a class that the files do not
            have.
    """

    def __init__(
        self,
        root: str = "data/traffic_cams",
        class_map: dict[int, int] | None = None,
        camera: str | None = None,
        split: Literal["given", "by_time"] | None = None,
        polygons: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if class_map is not None and (not class_map or min(*class_map, *class_map.values()) < 0):
            raise ValueError(
                f"class_map={class_map} must map classes 0, 1, ... of the files to classes here."
            )
        pick("split", split and [split], ("given", "by_time"))
        self.root, self.class_map, self.camera = Path(root), class_map, camera
        self.split, self.polygons = split, polygons
        self.names: list[str] = []
        self._layout = YoloLayout([], [], 0)
        self._left_out = LeftOut()

    def frames(self) -> list[CameraFrame]:
        """Lists all pictures, without their labels."""
        self._layout = read_layout(self.root, self._left_out, parted=self.split != "by_time")
        self.names, frames = self._layout.names, []
        if self.names and (beyond := [one for one in self.class_map or {} if one >= len(self.names)]):
            raise ValueError(f"class_map={self.class_map} has {beyond}, but the classes are {self.names}.")
        for picture in self._layout.pictures:
            camera, _, number = picture.name.rpartition("_")
            if self.camera is not None:
                camera, number = self.camera, picture.name
            if not camera:
                raise ValueError(
                    f"{picture.path} has no camera in its name; it must read <camera>_<number>{picture.path.suffix} or lie "
                    "in a folder of its camera; for pictures of one camera set camera=<its name>."
                )
            # padded so that it sorts in time as plain text, too
            frames.append(CameraFrame(picture.path, camera, padded(number)))
        self._left_out.say(f"{type(self).__name__} in {self.root}")
        if len(frames) > 1 and len({frame.camera for frame in frames}) == len(frames):
            rank_zero_warn(
                f"each of the {len(frames)} pictures in {self.root} is of another camera, going by names such as "
                f"{frames[0].path.name}: for pictures of one camera set camera=<its name>."
            )
        return frames

    def divide(self, frames: list[CameraFrame]) -> Splits:
        """Splits as folders or `data.yaml` say.

        Parts that they do not name are cut in time from the one before.
        """
        part = {picture.path: picture.part for picture in self._layout.pictures}
        if not any(part.values()):
            if self.split == "given":
                raise ValueError(
                    f"split='given', but {self.root} has no folders train, val, test and no data.yaml."
                )
            return super().divide(frames)
        return complete(
            Splits(*([f for f in frames if part[f.path] == name] for name in Splits._fields)), self.fractions
        )

    def annotate(self, frames: list[CameraFrame]) -> list[CameraFrame]:
        """Reads the label file of every frame."""
        files = {picture.path: picture.label for picture in self._layout.pictures}
        if missing := [files[frame.path] for frame in frames if not files[frame.path].is_file()]:
            raise FileNotFoundError(
                f"the label file {missing[0]} is missing, one of {len(missing)} that are (of {len(frames)} frames); write an empty file for a frame without "
                "objects."
            )
        labeled, objects = [], 0
        for frame in frames:
            boxes, labels = read_yolo(
                files[frame.path],
                self.class_map,
                self.names,
                self._layout.keypoints,
                self.polygons,
                self._left_out,
            )
            labeled.append(replace(frame, boxes=boxes, labels=labels))
            objects += len(boxes)
        self._left_out.check_classes(f"class_map={self.class_map}", objects)
        self._left_out.say(f"{type(self).__name__} in {self.root}")
        return labeled
