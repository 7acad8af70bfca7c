"""The base of all detection data: frames of cameras in, batches for a student (and its teacher) out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from lkd.checks import expect
from lkd.datamodules.detection.frame_cache import FrameCache
from lkd.datamodules.detection.frames import CameraFrame, FrameDataset, collate, pad
from lkd.datamodules.detection.views import Views
from lkd.datamodules.samples.class_numbers import check_class_numbers
from lkd.datamodules.samples.samplers import CameraBatchSampler, EpochLoader
from lkd.datamodules.samples.splits import Splits, by_time, check_fractions, pick
from lkd.former_names import former_arguments


@former_arguments(colour="color", unlabelled="unlabeled")
class DetectionDataModule(LightningDataModule):
    """Template of a detection data set: a subclass writes `frames()` and, for separate labels, `annotate()`.

    Every camera's frames are split by time. Training batches are augmented and, by default, of one camera
    each; validation, test and prediction see whole frames in order, sorted by camera. Under DDP the training
    batches are shared out by this module's own sampler. For exact test figures, evaluate on one device (see
    Lightning's warning).

    Args:
        image_size: longer side of the student's images in pixels (then padded to multiples of 32).
        teacher_size: longer side of the teacher's images; `None` for no `teacher_images` in the batches.
        batch_size: frames in a batch.
        fractions: shares (train, val, test) of every camera's frames; a val share of 0 omits validation.
        cameras: names of the cameras to use; `None` for all.
        unlabeled: whether training batches carry no `targets`; the labels of training frames are then never
            read.
        crop: range of the random crop's side as a share of the frame's; (1.0, 1.0) turns cropping off.
        flip: probability of a horizontal flip.
        color: strength of brightness, contrast and saturation jitter in [0, 1]; 0 is off.
        one_camera_per_batch: every training batch holds frames of one camera only.
        batches_per_camera: the same number of batches from every camera in an epoch; `None` uses every frame
            once.
        num_workers: processes that load frames; the batches do not depend on their number.
        seed: order and augmentation depend on (seed, epoch) only.
        views_per_image: number of augmented views of a training image, which repeat, so that a
            `CachedTeacher` finds its answers to them; `None` draws a new view in every epoch.
        cache_mb: decoded frames that each process which loads them keeps in memory, in units of 10^6 bytes
            (three a pixel), so that later epochs and rounds need not decode them; the batches are the same.

    Raises:
        ValueError: for numbers out of range, unknown cameras, or a split without any frame.
    """

    mean = std = None  # pixels in [0, 1] are not normalized further

    def __init__(
        self,
        image_size: int = 640,
        teacher_size: int | None = None,
        batch_size: int = 8,
        fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
        cameras: list[str] | None = None,
        unlabeled: bool = False,
        crop: tuple[float, float] = (0.5, 1.0),
        flip: float = 0.5,
        color: float = 0.2,
        one_camera_per_batch: bool = True,
        batches_per_camera: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        views_per_image: int | None = None,
        cache_mb: float = 0.0,
    ) -> None:
        super().__init__()
        expect(views_per_image=views_per_image, ge=1, none="new ones in every epoch")
        expect(batch_size=batch_size, ge=1)
        self.batch_size, self.unlabeled = batch_size, unlabeled
        self.num_workers, self.seed, self.views_per_image = num_workers, seed, views_per_image
        self.fractions = check_fractions(fractions)
        self.wanted_cameras = cameras
        self.one_camera_per_batch, self.batches_per_camera = one_camera_per_batch, batches_per_camera
        self.train_views = Views(image_size, teacher_size, crop, flip, color, seed=seed)
        self.eval_views = Views(image_size, teacher_size)
        self.cache = FrameCache(cache_mb)
        self.cameras: list[str] = []  # known after setup
        self.splits = Splits([], [], [])
        self.datasets: dict[str, FrameDataset] = {}

    def frames(self) -> list[CameraFrame]:
        """Lists all frames of the data set, of all cameras, in any order; boxes may be left to `annotate`."""
        raise NotImplementedError(f"{type(self).__name__} must implement frames() -> list[CameraFrame].")

    def annotate(self, frames: list[CameraFrame]) -> list[CameraFrame]:
        """Reads the labels of these frames; may leave out frames without any. Default: frames as they are."""
        return frames

    def divide(self, frames: list[CameraFrame]) -> Splits:
        """Splits frames into train, val and test. Default: by time within each camera, as `fractions` say."""
        return by_time(frames, self.fractions)

    def setup(self, stage: str | None = None) -> None:
        """Lists the frames, splits them and reads the labels which `stage` needs ("fit", "test", ...)."""
        frames = self.frames()
        if not frames:
            raise ValueError(f"{type(self).__name__} found no frame at all.")
        self.cameras = pick("cameras", self.wanted_cameras, (frame.camera for frame in frames))
        self.splits = self.divide([frame for frame in frames if frame.camera in self.cameras])
        if stage in ("fit", None):
            train = self._dataset("train", self.train_views, labeled=not self.unlabeled)
            train.plain = FrameDataset(train.frames, self.eval_views, train.labeled, self.cache)
            self.datasets["train"] = train
        if stage in ("fit", "validate", None) and self.fractions[1] > 0:
            self.datasets["val"] = self._dataset("val", self.eval_views)
        if stage == "test" or (stage is None and self.fractions[2] > 0):
            self.datasets["test"] = self._dataset("test", self.eval_views)
        if stage == "predict" or (stage is None and self.fractions[2] > 0):
            self.datasets["predict"] = self._dataset("test", self.eval_views, labeled=False)

    def serve_whole_frames(
        self, of_student: bool = False
    ) -> Callable[[list[str]], tuple[Tensor, list[tuple[int, int]]]]:
        """Serves whole frames to a teacher that labels each one once.

        Training batches carry no `teacher_images` then.

        Args:
            of_student: whether the frames are those that the student sees, in its size.

        Returns:
            A function of paths that gives the whole frames `(N, 3, H, W)` at the teacher's size, padded, and
            the (h, w) of each without the padding.
        """
        self.train_views.teacher_size = None  # until `serve_views`
        size = None if of_student else self.eval_views.teacher_size
        views = Views(size or self.eval_views.image_size)
        theirs: dict[str, Path] = {}  # what the teacher sees instead, if that is another file

        def load(paths: list[str]) -> tuple[Tensor, list[tuple[int, int]]]:
            if not theirs and not of_student:
                theirs.update((str(f.path), f.teacher_path or f.path) for part in self.splits for f in part)
            nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
            images = [views(self.cache.read(theirs.get(path, Path(path))), *nothing).image for path in paths]
            return pad(images), [(image.shape[1], image.shape[2]) for image in images]

        return load

    def serve_views(self) -> None:
        """Puts `teacher_images` back into training batches, if there is a teacher's size."""
        self.train_views.teacher_size = self.eval_views.teacher_size

    def _dataset(self, part: str, views: Views, labeled: bool = True) -> FrameDataset:
        frames: list[CameraFrame] = getattr(self.splits, part)
        frames = self.annotate(frames) if labeled else [replace(f, boxes=None, labels=None) for f in frames]
        if not frames:
            raise ValueError(self._why_empty(part))
        dataset = FrameDataset(frames, views, labeled, self.cache)
        if labeled:
            labels = [one.labels.numpy() for one in frames if one.labels is not None]
            what = f"the {part} frames of {type(self).__name__}"
            # pseudo-labels may replace those to train on, and a part may not be measured at all
            certain = part != "train" and getattr(self.trainer, f"limit_{part}_batches", 1) != 0
            check_class_numbers(np.concatenate(labels), self.trainer, what, certain)
        return dataset

    def _why_empty(self, part: str) -> str:
        if listed := len(getattr(self.splits, part)):
            return (
                f"the {part} split is empty: all its {listed} frames were left out as their labels were read."
            )
        sizes = ", ".join(f"{name} {len(frames)}" for name, frames in self.splits._asdict().items())
        return (
            f"the {part} split is empty: the frames ({sizes}) of {len(self.cameras)} cameras are divided by "
            f"fractions={self.fractions}, or as their files and folders say; change that, or add frames."
        )

    def _loader(self, part: str, **kwargs: Any) -> DataLoader:
        loader = EpochLoader if part == "train" else DataLoader
        return loader(
            self.datasets[part],
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            **kwargs,
        )

    def train_dataloader(self) -> DataLoader:
        """Returns augmented training batches; each of one camera unless `one_camera_per_batch=False`."""
        groups: dict[str, list[int]] = {}
        for index, frame in enumerate(self.datasets["train"].frames):
            groups.setdefault(frame.camera if self.one_camera_per_batch else "", []).append(index)
        sampler = CameraBatchSampler(
            list(groups.values()),
            self.batch_size,
            self.batches_per_camera,
            self.seed,
            num_replicas=self.trainer.world_size if self.trainer else 1,
            rank=self.trainer.global_rank if self.trainer else 0,
            views=self.views_per_image,
        )
        return self._loader("train", sampler=sampler, batch_size=None)

    def unlabeled_dataloader(self) -> DataLoader:
        """Returns the training frames as in evaluation, in order and without labels, which are not read."""
        frames = [replace(frame, boxes=None, labels=None) for frame in self.splits.train]
        if not frames:
            raise ValueError(self._why_empty("train"))
        dataset = FrameDataset(frames, Views(self.eval_views.image_size), False, self.cache)
        return DataLoader(
            dataset, batch_size=self.batch_size, collate_fn=collate, num_workers=self.num_workers
        )

    def val_dataloader(self) -> DataLoader | Sequence[DataLoader]:
        """Returns whole validation frames in order; an empty list if the share is 0."""
        return self._loader("val", batch_size=self.batch_size) if self.fractions[1] > 0 else []

    def test_dataloader(self) -> DataLoader:
        """Returns whole test frames in order."""
        return self._loader("test", batch_size=self.batch_size)

    def predict_dataloader(self) -> DataLoader:
        """Returns the test frames without their labels."""
        return self._loader("predict", batch_size=self.batch_size)
