"""The base of image classification: normalization, augmentation, a validation share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from lkd.checks import expect
from lkd.datamodules.classification.classification_datamodule import ClassificationDataModule
from lkd.datamodules.classification.image_dataset import ImageSet
from lkd.datamodules.samples.samplers import CameraBatchSampler, IndexBatchSampler


class ImageDataModule(ClassificationDataModule):
    """Normalization, augmentation and a validation share for image sets. A subclass fills `datasets`.

    Args:
        val: share of the training images held out for validation, by the seed; 0 omits validation.
        mean: mean of every channel, of pixels in [0, 1], which is subtracted; default none, so that x is in
            [0, 1].
        std: deviation of every channel, which is divided by; default none.
        padding: pixels of black around a training image; a crop of the image's size is taken out of it.
            CIFAR's standard is 4.
        flip: chance that a training image is mirrored. CIFAR's standard is 0.5.
        batch_size: samples in a batch.
        num_workers: processes that load samples.
        seed: seed of the held-out share, the order and the augmentation, which depends on (seed, epoch,
            image) only.
        views_per_image: number of augmented views of a training image, which repeat, so that a
            `CachedTeacher` finds its answers to them; `None` draws a new view in every epoch.
        numbered: training batches are `(x, y, numbers)` with numbers (B, 2) int64, the label and the number
            of the image among the training images, for a loss with a memory of every sample
            (`lkd.losses.CRD`, `label_key: 2`).

    Raises:
        ValueError: for a number out of its range.
    """

    def __init__(
        self,
        val: float = 0.1,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        padding: int = 0,
        flip: float = 0.0,
        batch_size: int = 128,
        num_workers: int = 0,
        seed: int = 0,
        numbered: bool = False,
        views_per_image: int | None = None,
    ) -> None:
        expect(val=val, ge=0, lt=1, why="it is a share of the training images")
        super().__init__((1 - val, val, 0.0), batch_size, num_workers, seed)
        expect(padding=padding, ge=0)
        expect(flip=flip, ge=0, le=1)
        expect(views_per_image=views_per_image, ge=1, none="new ones in every epoch")
        if (mean is None) != (std is None) or (std is not None and min(std) <= 0):
            raise ValueError(f"mean={mean} and std={std} must be given together, std above 0.")
        self.val, self.mean, self.std, self.padding, self.flip = val, mean, std, padding, flip
        self.numbered, self.views_per_image = numbered, views_per_image
        self.classes: list[str] = []

    def _fill(self, part: str, images: Any, labels: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Makes the data set of a part."""
        views: dict[str, Any] = {}
        if part == "train":
            views = {"padding": self.padding, "flip": self.flip, "numbered": self.numbered}
        self.datasets[part] = ImageSet(
            images, labels, rows, self.mean or (0.0,), self.std or (1.0,), seed=self.seed, **views
        )

    def _hold_out(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows to train on and rows to validate on, both in order."""
        shuffled = np.random.default_rng([self.seed, len(rows)]).permutation(rows)
        count = max(1, round(self.val * len(rows))) if self.val else 0
        return np.sort(shuffled[count:]), np.sort(shuffled[:count])

    def train_dataloader(self) -> DataLoader:
        """Returns shuffled batches, shared out over the ranks.

        The keys of samples carry the epoch of their views.
        """
        dataset = self._filled("train")
        sampler = CameraBatchSampler if dataset.augmented else IndexBatchSampler
        batches = sampler(
            [range(len(dataset))],
            self.batch_size,
            seed=self.seed,
            num_replicas=self.trainer.world_size if self.trainer else 1,
            rank=self.trainer.global_rank if self.trainer else 0,
            views=self.views_per_image,
        )
        return self._loader("train", sampler=batches, batch_size=None, collate_fn=tuple)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Returns validation images in order; an empty list if there are none."""
        held_out: Any = self.datasets["val"]  # torch's class has no length
        return super().val_dataloader() if len(held_out) else []

    def _filled(self, part: str) -> Any:
        found: Any = self.datasets[part]
        if not len(found):
            raise ValueError(f"val={self.val} leaves no image in the {part} part: there are too few.")
        return found
