"""Class folders of images, on disk or inside a tar that stays packed."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from lkd.datamodules.io.files import PARTS, is_image, part_of
from lkd.datamodules.io.left_out import LeftOut
from lkd.datamodules.io.pictures import decode
from lkd.picture_files import is_hidden, walk


class ImageFiles(Sequence[Tensor]):
    """Images below a folder or in a tar, in order of their paths; each is decoded when it is asked for.

    The class of an image is the name of its folder; `train/`, `val/` (or `valid/`) and `test/` above that
    folder, at any depth and in any case, say which part it belongs to. Hidden files are skipped. A tar is
    opened for every read, so that many workers can read it at once.

    Args:
        root: folder or tar.
        image_size: images are resized to this square, in pixels; `None` if they all have one size.
        left_out: counter of files in class folders that are no images.

    Raises:
        FileNotFoundError: if there is no such folder or file, or no image in class folders.
        ValueError: for a compressed tar, for two class folders of one name in different folders, and when an
            image is damaged.
    """

    def __init__(self, root: Path, image_size: int | None = None, left_out: LeftOut | None = None) -> None:
        self.root, self.image_size = root, image_size
        self.places: dict[str, tuple[int, int]] = {}  # in a tar: where an image begins, and its size
        if root.is_dir():
            names = [path.relative_to(root).as_posix() for path in walk(root)]
        elif root.is_file():
            self.places = members(root)
            names = list(self.places)
        else:
            raise FileNotFoundError(
                f"there is no {root}: root must be a folder of class folders, or a tar of it."
            )
        inside = [
            path for name in names if len((path := PurePosixPath(name)).parts) > 1 and not is_hidden(path)
        ]
        self.paths = sorted((path for path in inside if is_image(path, left_out)), key=str)
        if not self.paths:
            raise FileNotFoundError(f"{root} holds no image in a class folder, such as train/cat/1.jpg.")
        self._check_classes()

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        """Returns one image (3, H, W) uint8, RGB."""
        path = self.paths[index]
        name = f"{path} in {self.root}"
        if self.places:
            offset, size = self.places[str(path)]
            with self.root.open("rb") as file:
                file.seek(offset)
                pixels = decode(io.BytesIO(file.read(size)), name)
        else:
            pixels = decode(self.root / path, name)
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
        found = [_part(path) for path in self.paths]
        return np.array(
            [
                part_of(path.parts[place - 1]) if place else ""
                for path, place in zip(self.paths, found, strict=True)
            ]
        )

    def _check_classes(self) -> None:
        """Refuses class folders of one name in different places of a part, since the name is the class."""
        folders: dict[str, PurePosixPath] = {}
        for path in self.paths:
            folder = PurePosixPath(*path.parts[_part(path) : -1])
            if (other := folders.setdefault(folder.name, folder)) != folder:
                raise ValueError(
                    f"{self.root}: {other} and {folder} are two folders of images, both called {folder.name}, and a folder's "
                    f"name is its class: rename one, or move its images up. Folders of the parts are called {', '.join(PARTS)}."
                )


def _part(path: PurePosixPath) -> int:
    """Returns where in a path the part's folder ends; 0 if there is none."""
    return max((place for place, name in enumerate(path.parts[:-2], 1) if part_of(name)), default=0)


def members(tar: Path) -> dict[str, tuple[int, int]]:
    """Lists the files in a tar: name -> (where its bytes begin, how many there are).

    Raises:
        ValueError: if it is no tar, or a compressed one, since finding a file in it means reading all before
            it.
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
