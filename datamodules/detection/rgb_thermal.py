"""Pairs of a visible and a thermal picture: the student sees one, its teacher may see the other."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lkd.datamodules.detection.detection_datamodule import DetectionDataModule
from lkd.datamodules.detection.formats.box_files import read_boxes
from lkd.datamodules.detection.frames import CameraFrame
from lkd.datamodules.io.files import check_folder
from lkd.datamodules.io.left_out import LeftOut
from lkd.datamodules.io.path_pattern import PathPattern
from lkd.datamodules.samples.splits import Splits, by_time, pick

SENSORS = ("visible", "thermal")


class RGBThermalFolder(DetectionDataModule):
    """Aligned frames of a visible and a thermal camera, as in LLVIP, KAIST and aligned FLIR.

    Only frames that both cameras have are used, whatever the student sees; the others are counted. Thermal
    pictures are gray and become three equal channels. With `teacher_image`, the batches' `teacher_images` are
    views of the other camera's picture (same crop, same flip). A detector trained on visible pictures then
    teaches a thermal student without labels (cross-modal distillation, after Gupta, Hoffman and Malik, CVPR
    2016).

    Patterns say where files lie: paths below `root` with named places, from which the labels, the camera and
    the time are made. The defaults are those of LLVIP; docs/data.md has them for the other sets.

    Args:
        root: folder of the data set, also one or two folders deeper.
        visible: pattern of the visible pictures.
        thermal: pattern of the thermal pictures, with the same places.
        labels: pattern of the label files (see `lkd.datamodules.detection.formats.box_files.read_boxes`):
            `.xml`, or `.txt` in bbGt or YOLO format.
        camera: name of the camera, made of the places as `str.format` does it; the default is the first two
            digits.
        time: time of the frame, made likewise; in natural order.
        image: what the student sees, and is tested on: "thermal" or "visible".
        teacher_image: what the teacher sees, at `teacher_size` (by default `image_size`); `None` for the same
            picture.
        test: test on frames that have these values in these places, such as `{part: [test]}`, and split the
            others into train and val as the first two `fractions` say; `None` splits all by time.
        classes: name in the label files -> class here, default `{"person": 0}`. Other objects are left out.
        ignore: names that mark ignore regions, such as KAIST's "people", "person?" and "cyclist". Files may
            mark others.
        ignored: "background" counts ignore regions as if there were nothing, so that what is found there is
            false; "leave_out" leaves out frames with such regions where labels are needed.
        **kwargs: see `DetectionDataModule`.

    Raises:
        FileNotFoundError: if there is no pair, or no label file at all.
        ValueError: for patterns that do not fit each other, unknown values, or a damaged label file.
    """

    def __init__(
        self,
        root: str = "data/llvip",
        visible: str = "visible/{part}/{frame}.jpg",
        thermal: str = "infrared/{part}/{frame}.jpg",
        labels: str = "Annotations/{frame}.xml",
        camera: str = "{frame:.2}",
        time: str = "{frame}",
        image: Literal["thermal", "visible"] = "thermal",
        teacher_image: Literal["thermal", "visible"] | None = None,
        test: dict[str, list[str]] | None = None,
        classes: dict[str, int] | None = None,
        ignore: list[str] | None = None,
        ignored: Literal["background", "leave_out"] = "background",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        pick("image", [image], SENSORS)
        pick("teacher_image", teacher_image and [teacher_image], SENSORS)
        pick("ignored", [ignored], ("background", "leave_out"))
        self.patterns = {
            "visible": PathPattern(visible, "visible"),
            "thermal": PathPattern(thermal, "thermal"),
        }
        places = self.patterns["visible"].places
        if places != self.patterns["thermal"].places:
            raise ValueError(f"visible={visible!r} and thermal={thermal!r} must have the same places.")
        for name, text in (("labels", labels), ("camera", camera), ("time", time)):
            try:
                text.format(**dict.fromkeys(places, "0"))
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(f"{name}={text!r} must be made of the places {sorted(places)}.") from error
        if classes is not None and (not classes or min(classes.values()) < 0):
            raise ValueError(f"classes={classes} must map names in the label files to classes 0, 1, ...")
        if test is not None and not self.fractions[0]:
            raise ValueError(f"fractions={self.fractions} leave nothing to train on beside test={test}.")
        self.root, self.labels, self.camera, self.time = Path(root), labels, camera, time
        self.image, self.other = image, teacher_image if teacher_image != image else None
        self.test = None if test is None else {pick("test", [name], places)[0]: test[name] for name in test}
        self.classes = {"person": 0} if classes is None else classes
        self.ignore, self.ignored = ignore or [], ignored
        if self.other and self.eval_views.teacher_size is None:
            self.train_views.teacher_size = self.eval_views.teacher_size = self.eval_views.image_size
        self._base, self._left_out = self.root, LeftOut()
        self._places: dict[Path, dict[str, str]] = {}  # of every picture that the student may see

    def frames(self) -> list[CameraFrame]:
        """Lists all pairs, without their labels; pictures without a partner are counted."""
        check_folder(self.root, f"files like {self.patterns['visible'].text}")
        self._base = self.patterns["visible"].base(self.root) or self.root
        found = {sensor: pattern.files(self._base) for sensor, pattern in self.patterns.items()}
        both = [places for places in found["visible"] if places in found["thermal"]]
        if not both:
            counts = " and ".join(f"{len(found[s])} files like {self.patterns[s].text}" for s in SENSORS)
            raise FileNotFoundError(f"{self.root} holds {counts}, but no pair of them.")
        for sensor, other in (SENSORS, SENSORS[::-1]):
            for places, path in found[sensor].items():
                if places not in found[other]:
                    self._left_out.add(f"{sensor} pictures without a {other} one", path)
        self._left_out.say(f"{type(self).__name__} in {self.root}")
        frames = []
        for places in both:
            path, known = found[self.image][places], dict(places)
            theirs = found[self.other][places] if self.other else None
            camera, time = self.camera.format(**known), self.time.format(**known)
            frames.append(
                CameraFrame(path, camera, time, known.get("weather", "").lower(), teacher_path=theirs)
            )
            self._places[path] = known
        return frames

    def divide(self, frames: list[CameraFrame]) -> Splits:
        """Splits by time; the test is what `test` describes, if it is given."""
        if self.test is None:
            return super().divide(frames)
        for name, values in self.test.items():
            pick(f"test: {name}", values, (self._places[frame.path][name] for frame in frames))
        held = {
            frame.path
            for frame in frames
            if all(self._places[frame.path][name] in values for name, values in self.test.items())
        }
        first, second, _ = self.fractions
        shares = first / (first + second), second / (first + second), 0.0
        train, val, _ = by_time([frame for frame in frames if frame.path not in held], shares)
        return Splits(
            train, val, by_time([frame for frame in frames if frame.path in held], (0.0, 0.0, 1.0)).test
        )

    def annotate(self, frames: list[CameraFrame]) -> list[CameraFrame]:
        """Reads the label files; leaves out frames without one and, if asked, those with ignore regions."""
        labeled, missing, objects = [], [], 0
        for frame in frames:
            path = self._base / self.labels.format(**self._places[frame.path])
            if not path.is_file():
                missing.append(path)
                continue
            found = read_boxes(path, frame.path, self.classes, self.ignore, self._left_out)
            if found.ignored and self.ignored == "leave_out":
                self._left_out.add("frames with ignore regions", path)
                continue
            labeled.append(replace(frame, boxes=found.boxes, labels=found.labels))
            objects += len(found.boxes)
        if missing and len(missing) == len(frames):
            raise FileNotFoundError(f"none of {len(frames)} frames has a label file, such as {missing[0]}.")
        for path in missing:
            self._left_out.add("frames without a label file", path)
        self._left_out.check_classes(f"classes={self.classes}", objects)
        self._left_out.say(f"{type(self).__name__} in {self.root}")
        return labeled
