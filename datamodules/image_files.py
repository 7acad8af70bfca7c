"""Class folders of images, on disk or inside a tar that stays packed."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from lkd.datamodules.files import IMAGES

PARTS = ("train", "val", "test")


class ImageFiles(Sequence[Tensor]):
    """The images below a folder or in a tar, in order of their paths; each is decoded when it is asked for.

    The class of an image is the name of its folder; `train/`, `val/` and `test/` above that folder, at any depth,
    say to which part it belongs. Hidden files and files that are no JPEG or PNG are passed over. A tar is opened
    for every read, so it can be read by many workers at once.

    Args:
        root: folder or tar.
        image_size: images are resized to this square, in pixels; `None` if they all have one size.

    Raises:
        FileNotFoundError: if there is no such folder or file, or no image in class folders.
        ValueError: for a compressed tar, and when an image is damaged.
    """

    def __init__(self, root: Path, image_size: int | None = None) -> None:
        self.root, self.image_size = root, image_size
        self.places: dict[str, tuple[int, int]] = {}  # in a tar: where an image begins, and its bytes
        if root.is_dir():
            names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
        elif root.is_file():
            self.places = members(root)
            names = list(self.places)
        else:
            raise FileNotFoundError(
                f"there is no {root}: root must be a folder of class folders, or a tar of it."
            )
        self.paths = sorted((PurePosixPath(name) for name in names if _is_image(name)), key=str)
        if not self.paths:
            raise FileNotFoundError(f"{root} holds no image in a class folder, such as train/cat/1.jpg.")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        """One image (3, H, W) uint8, RGB."""
        path = self.paths[index]
        try:
            if self.places:
                offset, size = self.places[str(path)]
                with self.root.open("rb") as file:
                    file.seek(offset)
                    image = Image.open(io.BytesIO(file.read(size))).convert("RGB")
            else:
                with Image.open(self.root / path) as opened:
                    image = opened.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:  # Pillow raises all three for damaged files
            raise ValueError(
                f"the image {path} in {self.root} is damaged and cannot be decoded ({error})."
            ) from error
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        if self.image_size is not None and pixels.shape[1:] != (self.image_size, self.image_size):
            pixels = F.resize(pixels, [self.image_size, self.image_size], antialias=True)
        return pixels

    @property
    def classes(self) -> list[str]:
        """Names of the classes in alphabetical order: class 0, 1, ..."""
        return sorted({path.parent.name for path in self.paths})

    @property
    def labels(self) -> np.ndarray:
        """The class (N,) of every image."""
        number = {name: k for k, name in enumerate(self.classes)}
        return np.array([number[path.parent.name] for path in self.paths], dtype=np.int64)

    @property
    def parts(self) -> np.ndarray:
        """The part (N,) of every image: "train", "val", "test", or "" where no such folder is above it."""
        above = ([name for name in path.parts[:-2] if name in PARTS] for path in self.paths)
        return np.array([names[-1] if names else "" for names in above])


def members(tar: Path) -> dict[str, tuple[int, int]]:
    """Files in a tar: name -> (where its bytes begin, how many there are).

    Raises:
        ValueError: if it is no tar, or a compressed one, in which a file cannot be found without reading all before it.
    """
    try:
        with tarfile.open(tar, "r:") as packed:
            return {
                member.name.removeprefix("./"): (member.offset_data, member.size)
                for member in packed
                if member.isfile()
            }
    except tarfile.ReadError as error:
        raise ValueError(
            f"{tar} is not a plain tar: decompress it, or unpack it and give the folder."
        ) from error


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGES and not path.name.startswith(".") and len(path.parts) > 1
