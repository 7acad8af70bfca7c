"""Frames of fixed cameras: known before loading, streamed from disk, and collated."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lkd.datamodules.detection.formats.labeled_boxes import BEYOND, check_box, hangs_over
from lkd.datamodules.detection.frame_cache import FrameCache
from lkd.datamodules.detection.views import Views
from lkd.datamodules.io.left_out import LeftOut
from lkd.datamodules.io.pictures import read_image
from lkd.datamodules.samples.samplers import Key

GRAY = 114 / 255  # the padding that YOLO networks are trained with
STRIDE = 32  # padded sides are multiples of the coarsest stride


@dataclass(frozen=True, eq=False)  # compared by identity: tensors have no single truth value
class CameraFrame:
    """Camera frame that is not loaded yet.

    Args:
        path: the image file.
        camera: name of the camera, such as "C1".
        time: sortable text: ISO as "2015-11-12T07:09", or a number.
        weather: "sunny", "overcast", "rainy" or "".
        boxes: normalized boxes (N, 4) float32 xyxy in [0, 1], or `None` for an unlabeled frame.
        labels: (N,) int64, or `None`.
        teacher_path: the file that the teacher sees of the same moment: another sensor's picture, of the same
            aspect and aligned with the first; `None` for the same file.
    """

    path: Path
    camera: str
    time: str
    weather: str = ""
    boxes: Tensor | None = None
    labels: Tensor | None = None
    teacher_path: Path | None = None


def read_theirs(
    frame: CameraFrame, image: Tensor, read: Callable[[Path], Tensor] = read_image
) -> Tensor | None:
    """Reads what the teacher sees of a frame, (3, H', W') uint8, or `None` if that is the student's `image`.

    Args:
        frame: the frame.
        image: what the student sees.
        read: reads a picture.

    Raises:
        ValueError: if the two pictures differ in shape, so that they cannot be aligned.
    """
    if frame.teacher_path is None:
        return None
    theirs = read(frame.teacher_path)
    (h, w), (height, width) = theirs.shape[-2:], image.shape[-2:]
    if abs(h * width - w * height) > width:  # more than a row off the same aspect
        raise ValueError(
            f"{frame.path} ({width}x{height}) and {frame.teacher_path} ({w}x{h}) differ in shape: the student's and the "
            "teacher's picture must be aligned with each other."
        )
    return theirs


def tidy(frame: CameraFrame) -> tuple[Tensor, Tensor]:
    """Returns boxes (N, 4) clipped to the frame and labels (N,), without boxes of no area.

    Both are empty for an unlabeled frame.
    """
    if frame.boxes is None or frame.labels is None:
        return torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    boxes = frame.boxes.float().clamp(0, 1)
    keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return boxes[keep], frame.labels[keep].long()


def check_labels(frames: Sequence[CameraFrame]) -> None:
    """Refuses frames with missing or wrong labels, as a user's `frames()` may give.

    Counts clipped and empty boxes.

    Raises:
        ValueError: if boxes and labels do not match, a label is no class, or a box is not finite, of negative
            size or not in the frame.
    """
    left_out = LeftOut()
    for frame in frames:
        if frame.boxes is None or frame.labels is None:
            raise ValueError(f"{frame.path} has no labels, but labels are needed here (unlabeled=False).")
        if frame.boxes.shape != (len(frame.labels), 4) or not frame.boxes.isfinite().all():
            raise ValueError(f"boxes of {frame.path} must be finite, of shape (N, 4), with one label each.")
        if len(frame.labels) and (frame.labels.is_floating_point() or frame.labels.min() < 0):
            raise ValueError(
                f"labels of {frame.path} must be classes 0, 1, ..., not {frame.labels.tolist()[:8]}."
            )
        for number, box in enumerate(frame.boxes.tolist()):
            check_box(box, f"{frame.path}, box {number} (x1, y1, x2, y2 as shares of the frame)")
            if hangs_over(box):
                left_out.add(BEYOND, frame.path)
        if lost := len(frame.labels) - len(tidy(frame)[1]):
            left_out.add("boxes without area", frame.path, lost)
    left_out.say("FrameDataset")


def frame_columns(frames: Sequence[Any]) -> dict[str, list[str]]:
    """Returns metadata of frames or patches: lists `camera`, `time`, and `weather` and `day` where known.

    Example:
        >>> frame_columns([CameraFrame(Path("a.jpg"), "C1", "2015-11-12T07:09", "sunny")])
        {'camera': ['C1'], 'time': ['2015-11-12T07:09'], 'weather': ['sunny'], 'day': ['2015-11-12']}
    """
    columns = {"camera": [frame.camera for frame in frames], "time": [frame.time for frame in frames]}
    if any(frame.weather for frame in frames):
        columns["weather"] = [frame.weather for frame in frames]
    if all(re.match(r"\d{4}-\d\d-\d\dT", time) for time in columns["time"]):
        columns["day"] = [time[:10] for time in columns["time"]]
    return columns


class FrameDataset(Dataset[dict[str, Any]]):
    """Frames that are read from disk one by one, each turned into a view.

    It is indexed by a plain index (the view of epoch 0), by a `Key`, or by a list of keys (one batch).

    Args:
        frames: the frames to load.
        views: how a frame becomes what the student and the teacher see.
        labeled: whether samples carry a `target`.
        cache: reads the pictures, and may keep them; `None` for one that keeps none.

    Raises:
        ValueError: if `labeled` and a frame has no labels, or wrong ones (see `check_labels`).
    """

    def __init__(
        self,
        frames: Sequence[CameraFrame],
        views: Views,
        labeled: bool = True,
        cache: FrameCache | None = None,
    ) -> None:
        self.frames, self.views, self.labeled = list(frames), views, labeled
        self.cache = FrameCache() if cache is None else cache
        self.plain: FrameDataset | None = None  # for training frames: the same frames as in evaluation
        if labeled:
            check_labels(self.frames)

    @property
    def columns(self) -> dict[str, list[str]]:
        """Camera, weather, day and time of every frame, as far as they are known of any."""
        return frame_columns(self.frames)

    def __len__(self) -> int:
        """Returns the number of frames."""
        return len(self.frames)

    def __getitem__(self, key: int | Key | list[Key]) -> Any:
        """Returns one sample for an index or key, or the list of samples of a batch."""
        if isinstance(key, list):
            return [self[one] for one in key]
        key = key if isinstance(key, tuple) else Key(0, 0, int(key))
        frame = self.frames[key.item]
        boxes, labels = (
            tidy(frame) if self.labeled else (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
        )
        image = self.cache.read(frame.path)
        theirs = None if self.views.teacher_size is None else read_theirs(frame, image, self.cache.read)
        view = self.views(image, boxes, labels, key, theirs)
        sample: dict[str, Any] = {"image": view.image, "camera": frame.camera, "path": str(frame.path)}
        sample["view"] = view.window
        if view.teacher_image is not None:
            sample["teacher_image"] = view.teacher_image
        if self.labeled:
            sample["target"] = {"boxes": view.boxes, "labels": view.labels}
        return sample


def pad(images: Sequence[Tensor]) -> Tensor:
    """Stacks images (3, h, w) as (B, 3, H, W), padded with gray at the bottom and right to multiples of 32.

    Example:
        >>> pad([torch.zeros(3, 24, 32), torch.zeros(3, 40, 30)]).shape
        torch.Size([2, 3, 64, 32])
    """
    height, width = (-(-max(image.shape[side] for image in images) // STRIDE) * STRIDE for side in (1, 2))
    batch = torch.empty(len(images), 3, height, width)
    for slot, image in zip(batch, images, strict=True):
        h, w = image.shape[1:]
        slot[:, :h, :w] = image
        if h < height:
            slot[:, h:] = GRAY
        if w < width:
            slot[:, :h, w:] = GRAY
    return batch


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Joins samples of a `FrameDataset` into one batch (a dict).

    `images` (B, 3, H, W), `sizes` (unpadded (h, w) of each view), `views` (B, 5: crop x0, y0, x1, y1 as
    shares of the frame, and 1 if flipped), `cameras`, `paths`; `targets` if the data set is labeled (boxes
    in pixels of `images`); `teacher_images` and `teacher_sizes` if there is a teacher's size.
    """
    batch: dict[str, Any] = {}
    for prefix in ("", "teacher_"):
        if f"{prefix}image" in samples[0]:
            images = [sample[f"{prefix}image"] for sample in samples]
            batch[f"{prefix}images"] = pad(images)
            batch[f"{prefix}sizes"] = [(image.shape[1], image.shape[2]) for image in images]
    if "target" in samples[0]:
        batch["targets"] = [sample["target"] for sample in samples]
    batch["views"] = torch.stack([sample["view"] for sample in samples])
    batch["cameras"] = [sample["camera"] for sample in samples]
    batch["paths"] = [sample["path"] for sample in samples]
    return batch
