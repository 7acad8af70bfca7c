"""Labeled images of one size as a data set whose augmentation is a function of (seed, epoch, item) alone."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lkd.datamodules.samples.samplers import Key

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniforms(seed: int, keys: Sequence[Sequence[int]] | np.ndarray, count: int) -> np.ndarray:
    """Returns random numbers (B, count) in [0, 1) for B keys at once, each a function of (seed, key) alone.

    Uses the counter-based SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): making a generator for each image
    would take longer than the crop itself.

    Args:
        seed: seed, not negative.
        keys: as many integers for each, not negative, such as epoch, lap and item of an image.
        count: numbers for each key.

    Example:
        >>> uniforms(0, [Key(3, 0, 7), Key(3, 0, 8)], 2).round(3)
        array([[..., ...], [..., ...]])
    """
    state = np.full(len(keys), seed, dtype=np.uint64)
    for part in np.array(keys, dtype=np.uint64).T:
        state = _mix(_mix(state + GOLDEN) ^ part)
    numbers = _mix(state[:, None] + GOLDEN * np.arange(1, count + 1, dtype=np.uint64))
    return (numbers >> np.uint64(11)) * 2.0**-53


def _mix(state: np.ndarray) -> np.ndarray:
    """Returns the mixed bits of uint64 states, by the finalizer of SplitMix64."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def crop_and_flip(pixels: Tensor, numbers: np.ndarray, padding: int, flip: float) -> Tensor:
    """Crops of the images padded with black, and mirrors some of them.

    Args:
        pixels: (B, C, H, W).
        numbers: (B, 3) in [0, 1), which decide top, left and flip of each image.
        padding: pixels on every side; the crop has the size of the image.
        flip: share of the images that are mirrored left to right.

    Returns:
        A new tensor (B, C, H, W).

    Example:
        >>> picture = torch.tensor([[[[1, 2, 3]]]])
        >>> crop_and_flip(picture, np.array([[0.5, 0.9, 0.9]]), padding=1, flip=0.5)
        tensor([[[[2, 3, 0]]]])
    """
    height, width = pixels.shape[-2:]
    top, left = torch.from_numpy((numbers[:, :2] * (2 * padding + 1)).astype(np.int64)).T
    padded = torch.nn.functional.pad(pixels, [padding] * 4)
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)[torch.arange(len(pixels)), :, top, left]
    mirrored = torch.from_numpy(numbers[:, 2] < flip)[:, None, None, None]
    return torch.where(mirrored, crops.flip(3), crops)


class ImageSet(Dataset[tuple[Tensor, ...]]):
    """Images (C, H, W) float32 with their labels: an index gives (x, y), a list of indices a batch of both.

    A `Key` in place of an index gives the view of that epoch, augmented.

    Args:
        images: uint8 images (C, H, W), all of one size: a tensor (N, C, H, W), or any sequence.
        labels: (N,) int64.
        rows: which of them this set holds; `None` for all.
        mean: mean of every channel, of pixels in [0, 1]; subtracted.
        std: deviation of every channel; divided by.
        padding: pixels around the image out of which a crop is taken.
        flip: chance of a mirrored view.
        seed: seed of the views, not negative.
        numbered: whether samples have a third entry (2,) int64, the label and the sample's number in this
            set.

    Attributes:
        columns: the label of every sample, for partitions.

    Example:
        >>> images = ImageSet(torch.zeros(5, 3, 8, 8, dtype=torch.uint8), np.arange(5), padding=2, flip=0.5)
        >>> x, y = images[[Key(0, 0, 4), Key(0, 0, 1)]]
        >>> x.shape, y
        (torch.Size([2, 3, 8, 8]), tensor([4, 1]))
    """

    def __init__(
        self,
        images: Tensor | Sequence[Tensor],
        labels: np.ndarray,
        rows: np.ndarray | None = None,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        padding: int = 0,
        flip: float = 0.0,
        seed: int = 0,
        numbered: bool = False,
    ) -> None:
        self.images, self.numbered = images, numbered
        self.rows = np.arange(len(images)) if rows is None else rows
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64)[self.rows])
        self.columns = {"label": self.labels.numpy()}
        self.mean, self.std = (torch.tensor(list(v)).reshape(-1, 1, 1) for v in (mean, std))
        self.padding, self.flip, self.seed = padding, flip, seed

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.rows)

    @property
    def augmented(self) -> bool:
        """Whether views differ from the images."""
        return bool(self.padding or self.flip)

    @property
    def plain(self) -> "ImageSet":
        """The same images without augmentation and numbers."""
        twin = copy.copy(self)
        twin.padding, twin.flip, twin.numbered = 0, 0.0, False
        return twin

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        """Returns one sample for an index, or one batch for a list."""
        if not isinstance(index, list):
            return tuple(entry[0] for entry in self[[index]])
        keyed = isinstance(index[0], Key)
        items = [key.item for key in index] if keyed else index
        rows = self.rows[items]
        if isinstance(self.images, Tensor):
            pixels = self.images[torch.from_numpy(rows)]
        else:
            read = [self.images[row] for row in rows.tolist()]
            if len(sizes := {tuple(one.shape) for one in read}) > 1:
                raise ValueError(f"images have several sizes, such as {sorted(sizes)[:2]}: give image_size.")
            pixels = torch.stack(read)
        if keyed and self.augmented:
            pixels = crop_and_flip(pixels, uniforms(self.seed, index, 3), self.padding, self.flip)
        x, y = ((pixels.float() / 255) - self.mean) / self.std, self.labels[items]
        return (x, y, torch.stack([y, torch.tensor(items)], 1)) if self.numbered else (x, y)
