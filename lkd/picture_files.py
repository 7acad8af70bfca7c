"""Which files are pictures, and where they are below a folder; without torch."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePath

IMAGES = (".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif")
NOTES = (".txt", ".xml", ".json", ".yaml", ".yml", ".csv", ".md", ".names", ".cache", ".db", ".ini")


def is_hidden(path: PurePath) -> bool:
    """Returns whether a path below the read folder is one that systems leave there: `._a.jpg`, `__MACOSX`.

    Example:
        >>> [is_hidden(PurePath(path)) for path in ("cam/a.jpg", "cam/._a.jpg", ".thumbs/a.jpg", "__MACOSX/a.jpg")]
        [False, True, True, True]
    """
    return any(part.startswith(".") or part in ("__MACOSX", "@eaDir") for part in path.parts)


def walk(folder: Path) -> Iterator[Path]:
    """Yields all files below a folder, through links, except links to a folder above them."""
    for top, folders, names in os.walk(folder, followlinks=True):
        above = {Path(top).resolve(), *Path(top).resolve().parents}
        folders[:] = [name for name in folders if Path(top, name).resolve() not in above]
        yield from (Path(top, name) for name in names)
