"""Pictures with labels in COCO's format, the camera and the time in the file names."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.datamodules.detection.detection_datamodule import DetectionDataModule
from lkd.datamodules.detection.formats.coco_boxes import CocoBoxes, listed_size
from lkd.datamodules.detection.formats.coco_file import class_names, read_coco
from lkd.datamodules.detection.formats.coco_layout import (
    Located,
    drop_copies,
    found_files,
    frame_of,
    json_files,
    locate,
)
from lkd.datamodules.detection.frames import CameraFrame
from lkd.datamodules.io.files import check_folder
from lkd.datamodules.io.left_out import LeftOut
from lkd.datamodules.io.path_pattern import PathPattern
from lkd.datamodules.samples.splits import Splits, complete, pick
from lkd.pictures import image_size


class CocoFolder(DetectionDataModule):
    """Pictures below `root`, listed and labeled by JSON files in COCO's format.

    Camera and time come from the names of the pictures, by a pattern, or from fields of `images` such as
    `location` and `datetime` of COCO Camera Traps. A listed picture without annotations is a frame without
    objects. Boxes are in pixels of the `width` and `height` that the file says; where the picture has another
    size (stretched, or exported smaller), they are scaled along each axis, and one warning says so.

    Args:
        root: folder that holds all files.
        annotations: the JSON files below `root`, as a pattern, whose frames are all split by time; or a
            pattern for each part, such as `{train: train/*.json, val: valid/*.json, test: test/*.json}`. A
            part without a pattern is cut in time from the part before it, as `fractions` say. `None` finds
            all files. Folders or files called `train`, `val` (`valid`) and `test`, as in exports of Roboflow,
            are then the parts.
        images: the folder below `root` that `file_name` counts from. In it, `{part}` stands for the part and
            `{file}` for the name of the JSON file without its suffix. `None` for the folder of the JSON file.
        name: pattern of the pictures' paths, matched to as many last folders as it has; `{place}` is any part
            of a name.
        camera: name of the camera, made of places of `name` and fields of `images` as `str.format` does it.
        time: time of the picture, made likewise; in natural order.
        classes: name of a category -> class here; objects of other categories are left out and counted.
            `None` numbers all categories in order of their ids: 0, 1, ...
        ignored: how crowds (`iscrowd`) and regions to ignore are treated: "background" counts them as if
            there were nothing; "leave_out" leaves their frames out where labels are needed.
        **kwargs: see `DetectionDataModule`.

    Attributes:
        names: names of the categories, which are classes 0, 1, ... unless `classes` says otherwise; known
            after `frames`.

    Raises:
        FileNotFoundError: if there is no such file, or none of the pictures exists.
        ValueError: for a damaged file, a name that does not match the pattern, unknown classes, or an
            impossible box.
    """

    def __init__(
        self,
        root: str = "data/coco",
        annotations: str | dict[str, str] | None = None,
        images: str | None = None,
        name: str = "{camera}_{frame}.{type}",
        camera: str = "{camera}",
        time: str = "{frame}",
        classes: dict[str, int] | None = None,
        ignored: Literal["background", "leave_out"] = "background",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        pick("ignored", [ignored], ("background", "leave_out"))
        if isinstance(annotations, dict):
            pick("annotations", list(annotations), Splits._fields)
        try:
            (images or "").format(part="", file="")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"images={images!r} may have the places {{part}} and {{file}} only.") from error
        if classes is not None and (not classes or min(classes.values()) < 0):
            raise ValueError(f"classes={classes} must map names of categories to classes 0, 1, ...")
        self.root, self.annotations, self.images = Path(root), annotations, images
        self.pattern, self.camera, self.time = PathPattern(name, "name"), camera, time
        self.classes, self.ignored = classes, ignored
        self.names: list[str] = []
        self._left_out = LeftOut()
        self._found: dict[Path, Located] = {}  # all pictures

    def frames(self) -> list[CameraFrame]:
        """Returns all listed pictures that exist, without their labels."""
        check_folder(self.root, "COCO's JSON files and their pictures")
        by_part = {"": self.annotations} if isinstance(self.annotations, str) else self.annotations
        paths = found_files(self.root) if by_part is None else json_files(self.root, by_part)
        files = [(part, read_coco(path, self._left_out)) for part, path in paths]
        self._found = locate(files, self.root, self.images, self._left_out)
        self.names = class_names([file for _, file in files])
        pick("classes", None if self.classes is None else list(self.classes), self.names)
        order = ("", *Splits._fields)  # the copy to learn from is kept
        frames = [
            frame_of(path, self.root, found.picture, self.pattern, self.camera, self.time)
            for path, found in sorted(self._found.items(), key=lambda item: order.index(item[1].part))
        ]
        frames = drop_copies(frames, self._left_out)
        if len(frames) > 1 and len({frame.camera for frame in frames}) == len(frames):
            rank_zero_warn(
                f"each of the {len(frames)} pictures in {self.root} is of another camera, going by name={self.pattern.text!r} and "
                f"names such as {frames[0].path.name}: say by name and camera what the camera is."
            )
        self._left_out.say(f"{type(self).__name__} in {self.root}")
        return frames

    def divide(self, frames: list[CameraFrame]) -> Splits:
        """Splits by time, or by the parts of `annotations`.

        Missing parts are cut in time from the one before.
        """
        if not any(found.part for found in self._found.values()):
            return super().divide(frames)
        parts = Splits(*([f for f in frames if self._found[f.path].part == name] for name in Splits._fields))
        return complete(parts, self.fractions)

    def annotate(self, frames: list[CameraFrame]) -> list[CameraFrame]:
        """Reads the objects of the frames; leaves out (and counts) frames with ignore regions if asked."""
        classes = {name: k for k, name in enumerate(self.names)} if self.classes is None else self.classes
        reader, labeled, scaled, objects = CocoBoxes(classes, self._left_out), [], [], 0
        if not any(found.file.annotations for found in self._found.values()):
            raise ValueError(
                f"the files of {self.root} have no annotations at all, but labels are needed here."
            )
        for frame in frames:
            _, file, picture = self._found[frame.path]
            if file.annotations is None:
                raise ValueError(f"{file.path} has no `annotations`, but labels are needed here.")
            size, own = listed_size(picture), image_size(frame.path)
            if size is not None and size != own:
                scaled.append(
                    f"{picture.place}, {size[0]:g}x{size[1]:g} in the file, {own[0]}x{own[1]} on disk"
                )
            if size == own[::-1] and own[0] != own[1]:
                raise ValueError(
                    f"{scaled[-1]}: one of the two is turned on its side, and the boxes with it."
                )
            found = reader.read(file, picture, size or own)
            if found.ignored and self.ignored == "leave_out":
                self._left_out.add("frames with crowds or regions to ignore", frame.path)
                continue
            objects += len(found.labels)
            labeled.append(replace(frame, boxes=found.boxes, labels=found.labels))
        reader.check()
        if scaled:
            rank_zero_warn(
                f"{len(scaled)} of {len(frames)} pictures in {self.root} have another size than their file says (such as "
                f"{scaled[0]}): their boxes are scaled along each axis."
            )
        self._left_out.check_classes(f"classes={self.classes}", objects)
        self._left_out.say(f"{type(self).__name__} in {self.root}")
        return labeled
