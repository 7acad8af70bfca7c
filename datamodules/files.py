"""Small helpers around files: what must exist, what lies at unsure depth, gzipped text, YOLO boxes."""

import gzip
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor

IMAGES = (".jpg", ".jpeg", ".png")


def check_folder(path: Path, what: str) -> Path:
    """Returns `path` if it is a folder; else raises FileNotFoundError saying that `what` belongs there."""
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}: put {what} there, or set root to where it is.")
    return path


def find(root: Path, patterns: Sequence[str], depth: int = 2) -> list[Path]:
    """Paths that match the first pattern that matches anything in `root` or up to `depth` folders below it.

    Archives are often unpacked one folder too deep; the shallowest matches count.
    """
    for pattern in patterns:
        for level in range(depth + 1):
            if found := sorted(root.glob("*/" * level + pattern)):
                return found
    return []


def read_lines(path: Path) -> list[str]:
    """Non-empty lines of a text file, which may be gzipped (`.gz`)."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        return [line for line in (raw.strip() for raw in file) if line]


def read_yolo(path: Path, class_map: dict[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """Reads a YOLO label file: one line `class x y w h` an object, centre and size normalised.

    An empty file is a frame without objects.

    Args:
        path: the text file.
        class_map: class in the file -> class here; other classes are left out. `None` keeps all as they are.

    Returns:
        Boxes (N, 4) float32 xyxy normalised to [0, 1], and labels (N,) int64.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a line that is not of this form; the message names file and line.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"the label file {path} is missing; write an empty file for a frame without objects."
        )
    boxes, labels = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not (words := line.split()):
            continue
        try:
            name, x, y, w, h = int(words[0]), *map(float, words[1:5])
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {line!r} is not `class x y w h`.") from error
        if class_map is None or name in class_map:
            boxes.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            labels.append(name if class_map is None else class_map[name])
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(labels, dtype=torch.int64)


def list_images(folder: Path, suffixes: Collection[str] = IMAGES) -> list[Path]:
    """Image files directly in `folder`, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
