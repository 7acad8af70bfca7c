"""Small helpers around files: checks of folders, files at unknown depth, pictures in folders."""

from collections.abc import Sequence
from pathlib import Path, PurePath

from lkd.datamodules.io.left_out import LeftOut
from lkd.picture_files import IMAGES, NOTES, is_hidden, walk

PARTS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}  # folders' names, in any case


def part_of(name: str) -> str:
    """Returns which part a folder's name says: "train", "val", "test", or "" for none.

    Example:
        >>> part_of("Valid"), part_of("cat")
        ('val', '')
    """
    return PARTS.get(name.lower(), "")


def check_folder(path: Path, what: str) -> Path:
    """Returns `path` if it is a folder.

    Else raises FileNotFoundError or NotADirectoryError, naming `what` belongs there.
    """
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file: set root to the folder that holds {what}.")
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}: put {what} there, or set root to where it is.")
    return path


def find(root: Path, patterns: Sequence[str], depth: int = 2) -> list[Path]:
    """Returns paths that match the first pattern with any match in `root` or up to `depth` folders below it.

    Archives are often unpacked one folder too deep; the shallowest matches count.
    """
    for pattern in patterns:
        for level in range(depth + 1):
            if found := sorted(root.glob("*/" * level + pattern)):
                return found
    return []


def is_image(path: PurePath, left_out: LeftOut | None = None) -> bool:
    """Returns whether a file's name is that of a readable picture.

    Counts files that are neither pictures nor notes.
    """
    if path.suffix.lower() in IMAGES:
        return True
    if left_out is not None and path.suffix.lower() not in NOTES:
        left_out.add(f"files with the suffix {path.suffix or '(none)'}, which is not read", path)
    return False


def list_images(folder: Path, left_out: LeftOut | None = None, deep: bool = False) -> list[Path]:
    """Lists image files in `folder`, sorted by path; hidden files are skipped.

    Args:
        folder: folder to look into.
        left_out: counter of files that are neither pictures nor notes (labels, lists, ...).
        deep: look into the folders below, too, and follow links.
    """
    files = walk(folder) if deep else (path for path in folder.iterdir() if path.is_file())
    found = (path for path in files if not is_hidden(path.relative_to(folder)))
    return sorted(path for path in found if is_image(path, left_out))
