"""`FrameAnswerSource`: frames of cameras, a student that detects, a teacher that is sent parts of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from lkd.datamodules.detection.detection_datamodule import DetectionDataModule
from lkd.datamodules.detection.frames import CameraFrame, check_labels, pad, read_theirs, tidy
from lkd.datamodules.detection.views import fit_size
from lkd.datamodules.io.pictures import read_image
from lkd.edge.export.kind import arrays
from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answer, Answers
from lkd.edge.offload.boxes import BoxTask
from lkd.edge.offload.payload import Payload
from lkd.edge.offload.source import AnswerSource, Split, timed
from lkd.edge.offload.tiles import Corners
from lkd.edge.predict.frame import Frame
from lkd.edge.predict.predictor import PARTS, Predictor
from lkd.edge.predict.prepare import back
from lkd.edge.predict.reuse.moments import seconds
from lkd.edge.predict.timing import FrameTimes
from lkd.teachers import Teacher


class FrameAnswerSource(AnswerSource):
    """Frames in their own size; the student sees them as on a device, the teacher as they are sent.

    Args:
        student: The predictor of each camera.
        teacher: A detector whose classes are the student's.
        data: Data module whose test frames are measured. Calibration is on its validation frames, or else on
            its training frames.
        payload: How a picture or a tile is sent.
        task: The task, with the tiles if there are any.
        teacher_size: Longer side of a whole frame in the teacher's input; a tile has the same scale.
        labels: Whether labels of the calibration frames are read.

    Raises:
        ValueError: For an empty split, or for labels without any object, as nothing can be measured then.
    """

    chunk = 16

    def __init__(
        self,
        student: Callable[[str], Predictor],
        teacher: Teacher,
        data: DetectionDataModule,
        payload: Payload,
        task: BoxTask,
        teacher_size: int,
        labels: bool = False,
    ) -> None:
        self.student, self.teacher, self.payload = student, teacher, payload
        self.task: BoxTask = task
        self.teacher_size = teacher_size
        data.prepare_data()
        data.setup("test")
        held_out, learned = list(data.splits.val), list(data.splits.train)
        calibration = data.annotate(held_out or learned) if labels else held_out or learned
        if labels:
            check_labels(calibration)
        else:
            calibration = [replace(frame, boxes=None, labels=None) for frame in calibration]
        self.frames: dict[Split, list[CameraFrame]] = {
            "calibration": calibration,
            "test": list(data.datasets["test"].frames),
        }
        if not calibration:
            raise ValueError(
                f"{type(data).__name__} has neither validation nor training frames, and thresholds are never chosen on test data: "
                f"change fractions={data.fractions}."
            )
        for split, frames in self.frames.items():
            if frames[0].labels is not None and not any(len(tidy(frame)[1]) for frame in frames):
                raise ValueError(
                    f"the labels of the {len(frames)} {split} frames of {type(data).__name__} have no object at all, so nothing can be "
                    "measured: change the shares of the data, or look at its labels."
                )
        kind = "validation frames" if held_out else "training frames, as there are no validation frames"
        self.calibrated_on = f"{len(calibration)} {kind}, {'with' if labels else 'without'} their labels"

    def cameras(self, split: Split) -> Sequence[str]:
        """Returns the camera of each frame."""
        return [frame.camera for frame in self.frames[split]]

    def seconds(self, split: Split, step_s: float | None) -> list[float]:
        """Returns the time of each frame, by which the age of an answer is counted.

        Args:
            split: The split.
            step_s: Seconds between two frames whose times are numbers that follow each other.

        Raises:
            ValueError: If a time is neither a date with a time nor, with `step_s`, a number.
        """
        return [_time(frame, step_s) for frame in self.frames[split]]

    def image(self, split: Split, n: int) -> Array:
        """Reads the student's picture of frame n, `(H, W, 3)` uint8."""
        return _upright(read_image(self.frames[split][n].path))

    def digest(self, split: Split) -> str:
        """Returns a hash of paths, cameras and the bytes of all files.

        A frame that is written anew need not have another size, and a copy of the data has other times.
        """
        seen = xxhash.xxh3_64()
        for frame in self.frames[split]:
            for path in filter(None, (frame.path, frame.teacher_path)):
                content = xxhash.xxh3_64_hexdigest(path.read_bytes()) if path.is_file() else ""
                seen.update(f"{path} {frame.camera} {content}\n".encode())
        return seen.hexdigest()

    def truth(self, split: Split, answers: Answers) -> Sequence[Answer] | None:
        """Returns labeled boxes in pixels."""
        frames, found = self.frames[split], []
        if frames[0].boxes is None:
            return None
        for frame, (height, width) in zip(frames, answers.sizes.tolist(), strict=True):
            boxes, labels = tidy(frame)
            pixels = boxes * torch.tensor([width, height, width, height])
            found.append({"boxes": pixels.numpy(), "labels": labels.numpy()})
        return found

    def ask(self, split: Split, start: int, stop: int) -> Answers:
        """Asks student and teacher, frame by frame."""
        rows = [self._frame(frame) for frame in self.frames[split][start:stop]]
        local, remote, *numbers = zip(*rows, strict=True)
        sizes, nbytes, device_ms, server_ms = (np.array(each) for each in numbers)
        return Answers(local, remote, sizes, nbytes, device_ms, server_ms)

    def _frame(self, frame: CameraFrame) -> tuple[Any, ...]:
        own = read_image(frame.path)
        theirs = read_theirs(frame, own)
        image, seen = _upright(own), _upright(own if theirs is None else theirs)
        predictor = self.student(frame.camera)
        local, device_ms = timed(lambda: predictor(Frame(str(frame.path), 0, None, image), FrameTimes(PARTS)))
        sizes, (height, width) = image.shape[:2], seen.shape[:2]
        if self.task.tiles is not None and (height, width) != sizes:
            raise ValueError(
                f"tiles: the student's picture {frame.path} is {sizes[1]}x{sizes[0]} and the teacher's {width}x{height}; tiles need "
                "one size, so send whole frames (tiles=null)."
            )
        whole = [(0, 0, width, height)]
        crops = whole if self.task.tiles is None else self.task.tiles.crops(height, width)
        encoded = [
            self.payload.of_part(max(x2 - x1, y2 - y1), max(height, width)).sent(
                np.ascontiguousarray(seen[y1:y2, x1:x2])
            )
            for x1, y1, x2, y2 in crops
        ]
        remote, server_ms = timed(lambda: self._taught(encoded, crops, (height, width), frame.camera))
        if sizes != (height, width):  # another sensor's picture: boxes in pixels of the student's
            ratio = np.array([sizes[1] / width, sizes[0] / height] * 2, np.float32)
            remote = [{**one, "boxes": one["boxes"] * ratio} for one in remote]
        nbytes = [size for _, size in encoded]
        return local, remote, sizes, nbytes, device_ms, [server_ms / len(crops)] * len(crops)

    def _taught(
        self, sent: Sequence[tuple[Array, int]], crops: Sequence[Corners], frame: tuple[int, int], camera: str
    ) -> list[Answer]:
        """Returns the teacher's boxes in pixels of the crops, whatever size they were sent in."""
        height, width = fit_size(*frame, self.teacher_size)
        scales = width / frame[1], height / frame[0]
        inputs, ratios = [], []
        for (picture, _), (x1, y1, x2, y2) in zip(sent, crops, strict=True):
            w, h = (max(1, round(s * k)) for s, k in zip((x2 - x1, y2 - y1), scales, strict=True))
            inputs.append(_scaled(torch.from_numpy(picture).permute(2, 0, 1), h, w))
            ratios.append(((x2 - x1) / w, (y2 - y1) / h))
        found = self.teacher.detect(pad(inputs), [camera] * len(inputs))
        return [
            back(arrays(one), ratio, y2 - y1, x2 - x1)
            for one, ratio, (x1, y1, x2, y2) in zip(found, ratios, crops, strict=True)
        ]


def _time(frame: CameraFrame, step_s: float | None) -> float:
    when = seconds(frame.time, step_s)
    if when is None:
        why = "no date with a time of day: leave reuse out"
        if frame.time.isdecimal():
            why = "a number, and age is counted in seconds: say how many lie between two numbers, as step_s: 0.5"
        raise ValueError(f"reuse: the time {frame.time!r} of {frame.path} is {why}.")
    return when


def _upright(image: Tensor) -> Array:
    """Returns a picture `(3, H, W)` as `(H, W, 3)`."""
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def _scaled(image: Tensor, height: int, width: int) -> Tensor:
    """Scales as detection data do: resized as bytes, then in [0, 1]."""
    return F.to_dtype(F.resize(image, [height, width], antialias=True), torch.float32, scale=True)
