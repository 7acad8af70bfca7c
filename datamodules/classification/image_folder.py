"""Images in class folders as train, validation and test data."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lkd.checks import expect
from lkd.datamodules.classification.image_datamodule import ImageDataModule
from lkd.datamodules.classification.image_reader import ImageFiles
from lkd.datamodules.io.left_out import LeftOut

LIMIT = 8 << 30  # bytes of images that are taken into memory


class ImageFolderData(ImageDataModule):
    """Images in class folders, on disk or in a tar that stays packed: `[train|val|test]/<class>/<image>`.

    The validation set is the folder `val` or, without one, the share `val` of the training images. The test
    set is the folder `test` or, without one, the share `test`. Without any such folder, these shares split
    all images.

    Args:
        root: folder, or tar (not compressed) of it.
        image_size: images are resized to this square, in pixels; `None` if they all have one size.
        test: share of the images held out for the test, by the seed, where there is no folder `test`.
        in_memory: decode every image once, at the start, and keep the bytes; false reads them each time.
        **kwargs: see `ImageDataModule`.

    Raises:
        FileNotFoundError: if there is no such folder or tar, or no image in it.
        ValueError: for images of several sizes without `image_size`, a test class that is not trained, or
            more images than memory should hold.
    """

    def __init__(
        self,
        root: str,
        image_size: int | None = None,
        test: float | None = None,
        in_memory: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        expect(test=test, gt=0, lt=1, none="a folder of its own", why="it is a share of the images")
        self.root, self.image_size, self.test, self.in_memory = Path(root), image_size, test, in_memory
        self._left_out = LeftOut()

    def prepare_data(self) -> None:
        """Checks that there are images."""
        ImageFiles(self.root)

    def setup(self, stage: str | None = None) -> None:
        """Lists the images, splits them, and decodes them if they are kept in memory."""
        files = ImageFiles(self.root, self.image_size, self._left_out)
        self._left_out.say(f"{type(self).__name__} in {self.root}")
        labels, self.classes = files.labels, files.classes
        rows = self._split(files.parts)
        strange = set(labels[rows["test"]]) | set(labels[rows["val"]])
        if strange := strange - set(labels[rows["train"]]):
            names = ", ".join(self.classes[k] for k in sorted(strange))
            raise ValueError(f"{self.root}: no training image of {names}, which the val or test part has.")
        images = _in_memory(files) if self.in_memory else files
        for part, held in rows.items():
            self._fill(part, images, labels, held)

    def _split(self, parts: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the rows of train, val and test."""
        rows = {name: np.flatnonzero(parts == name) for name in ("train", "val", "test")}
        if len(loose := np.flatnonzero(parts == "")):
            if len(loose) < len(parts):
                raise ValueError(
                    f"{self.root}: some class folders are in train, val or test and some are not; move them all."
                )
            rows["train"] = loose
        if not len(rows["test"]):
            if self.test is None:
                raise ValueError(
                    f"{self.root} has no folder test: give a share to hold out, such as test=0.2."
                )
            shuffled = np.random.default_rng([self.seed, len(parts), 1]).permutation(rows["train"])
            count = round(self.test * len(shuffled))
            rows["train"], rows["test"] = np.sort(shuffled[count:]), np.sort(shuffled[:count])
        if not len(rows["val"]):
            rows["train"], rows["val"] = self._hold_out(rows["train"])
        return rows


def _in_memory(files: ImageFiles) -> Tensor:
    """Returns all images as (N, 3, H, W) uint8."""
    first = files[0]
    if (size := first.nbytes * len(files)) > LIMIT:
        raise ValueError(
            f"{files.root}: {len(files)} images take {size / 2**30:.0f} GiB: set in_memory=false."
        )
    images = torch.empty(len(files), *first.shape, dtype=torch.uint8)
    for index, image in enumerate(files):
        if image.shape != first.shape:
            sizes = " and ".join(f"{s[2]}x{s[1]}" for s in (first.shape, image.shape))
            raise ValueError(f"{files.root}: images have several sizes ({sizes}): give image_size.")
        images[index] = image
    return images
