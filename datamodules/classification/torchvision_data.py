"""Image sets with torchvision's interface: CIFAR, MNIST and the like, or your own."""

import difflib
import importlib
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets
from torchvision.transforms.v2 import functional as F

from lkd.datamodules.classification.image_datamodule import ImageDataModule

# Mean and deviation of every channel over the training images, of pixels in [0, 1]
STATISTICS = {
    "CIFAR10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "CIFAR100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "MNIST": ((0.1307,), (0.3081,)),
    "FashionMNIST": ((0.2860,), (0.3530,)),
}


class TorchvisionData(ImageDataModule):
    """A classification set of torchvision, or your own with its interface, in its train and test parts.

    Sets that hold their images in an array `data`, as CIFAR and MNIST do, stay in memory as bytes. Images of
    other sets are read when they are needed, and resized to `image_size`.

    Args:
        dataset: name in `torchvision.datasets`, such as "CIFAR10", or the dotted path of a class.
        root: folder of the files, as torchvision lays them out.
        download: let torchvision fetch what is missing.
        image_size: side in pixels for sets whose images are files; `None` if all have one size.
        dataset_args: further arguments of the class, such as `{split: balanced}` for EMNIST.
        mean: see `ImageDataModule`; default the known values of CIFAR10, CIFAR100, MNIST and FashionMNIST.
        std: likewise.
        **kwargs: see `ImageDataModule`.

    Raises:
        ValueError: for an unknown name, or a class that has no official parts.
        FileNotFoundError: if the files are missing and `download` is false.
    """

    def __init__(
        self,
        dataset: str,
        root: str,
        download: bool = False,
        image_size: int | None = None,
        dataset_args: dict[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        if mean is None and std is None:
            mean, std = STATISTICS.get(dataset, (None, None))
        super().__init__(mean=mean, std=std, **kwargs)
        self.dataset_class, self.root, self.download = _class(dataset), root, download
        self.image_size, self.dataset_args = image_size, dataset_args or {}
        self._parameters = inspect.signature(self.dataset_class).parameters
        if not {"train", "split"} & set(self._parameters):
            raise ValueError(
                f"dataset={dataset!r} takes neither train= nor split=: it has no official test part."
            )

    def prepare_data(self) -> None:
        """Checks that everything is there, or downloads it."""
        for part in ("train", "test"):
            self._open(part, self.download)

    def setup(self, stage: str | None = None) -> None:
        """Reads the set and holds out the validation share."""
        for part in ("train", "test"):
            theirs = self._open(part)
            images, labels = _images(theirs, self.image_size), _labels(theirs)
            if part == "test":
                self._fill("test", images, labels)
                continue
            self.classes = list(map(str, getattr(theirs, "classes", sorted(set(labels.tolist())))))
            for name, rows in zip(("train", "val"), self._hold_out(np.arange(len(labels))), strict=True):
                self._fill(name, images, labels, rows)

    def _open(self, part: str, download: bool = False) -> Any:
        which: dict[str, Any] = {"train": part == "train"} if "train" in self._parameters else {"split": part}
        if "download" in self._parameters:
            which["download"] = download
        name = self.dataset_class.__name__
        try:
            return self.dataset_class(self.root, **which, **self.dataset_args)
        except (
            OSError,
            RuntimeError,
        ) as error:  # torchvision: RuntimeError("Dataset not found or corrupted.")
            if download:
                raise ConnectionError(
                    f"cannot get {name} ({error}); run again, or put its files into {self.root}."
                ) from error
            raise FileNotFoundError(
                f"{self.root} does not hold {name} as torchvision lays it out ({error}); set download=true, or "
                "set root to where it is."
            ) from error


class _Converted(Sequence[Tensor]):
    """Images of a data set that gives PIL images or tensors, as uint8 (C, S, S)."""

    def __init__(self, dataset: Any, size: int | None) -> None:
        self.dataset, self.size = dataset, size

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        image = self.dataset[index][0]
        if not isinstance(image, Tensor) and image.mode.startswith(("I", "F")):
            raise ValueError(
                f"image {index} has more than 8 bits a channel: scale it to 8 bits (0 to 255) first."
            )
        pixels = image if isinstance(image, Tensor) else F.pil_to_tensor(image.convert("RGB"))
        _check_bytes(pixels.dtype, type(self.dataset).__name__)
        return pixels if self.size is None else F.resize(pixels, [self.size, self.size], antialias=True)


def _check_bytes(dtype: object, name: str) -> None:
    """Refuses pixels that are no bytes: a transform may have scaled them, and they would be scaled again."""
    if dtype != torch.uint8:
        raise ValueError(
            f"{name} gives pixels as {dtype}: they must be bytes, 0 to 255 (without ToTensor, for instance)."
        )


def _class(name: str) -> type:
    """Returns a class of `torchvision.datasets`, or the class of a dotted path."""
    module, _, last = name.rpartition(".")
    place = importlib.import_module(module) if module else datasets
    if not hasattr(place, last):
        near = difflib.get_close_matches(last, dir(place), n=3)
        hint = (
            f"did you mean {' or '.join(near)}?"
            if near
            else "give a name there, or the dotted path of a class."
        )
        raise ValueError(f"dataset={name!r} is not in {place.__name__}; {hint}")
    return getattr(place, last)


def _images(dataset: Any, size: int | None) -> Tensor | Sequence[Tensor]:
    """Returns all images (N, C, H, W) uint8 of a set with an array, else a sequence that reads them."""
    data = getattr(dataset, "data", None)
    if size is not None or not isinstance(data, Tensor | np.ndarray):
        return _Converted(dataset, size)
    pixels = torch.as_tensor(data)
    _check_bytes(pixels.dtype, type(dataset).__name__)
    if pixels.ndim == 3:  # gray
        return pixels[:, None]
    return pixels.permute(0, 3, 1, 2).contiguous() if pixels.shape[-1] in (1, 3) else pixels


def _labels(dataset: Any) -> np.ndarray:
    """Returns all labels (N,), read one by one only if the set does not list them."""
    listed = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if listed is None:
        listed = [dataset[index][1] for index in range(len(dataset))]
    labels = np.asarray(listed)
    if (
        labels.ndim != 1
        or labels.dtype.kind not in "iufb"
        or (labels != np.floor(labels)).any()
        or (len(labels) and labels.min() < 0)
    ):
        raise ValueError(
            f"{type(dataset).__name__} must have one class an image, 0, 1, ..., but its labels are {labels.dtype} of shape "
            f"{labels.shape}, the first {labels[:1].tolist()}."
        )
    return labels.astype(np.int64)
