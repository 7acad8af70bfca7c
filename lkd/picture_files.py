"""Which files are pictures, and where below a folder they lie; without torch."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePath

IMAGES = (".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif")
NOTES = (".txt", ".xml", ".json", ".yaml", ".yml", ".csv", ".md", ".names", ".cache", ".db", ".ini")


def is_hidden(path: PurePath) -> bool:
    """Whether a path, below the folder that is read, is one of those that systems leave there: `._a.jpg`, `__MACOSX`.

    Example:
        >>> [is_hidden(PurePath(path)) for path in ("cam/a.jpg", "cam/._a.jpg", ".thumbs/a.jpg", "__MACOSX/a.jpg")]
        [False, True, True, True]
    """
    return any(part.startswith(".") or part in ("__MACOSX", "@eaDir") for part in path.parts)


def walk(folder: Path) -> Iterator[Path]:
    """All files below a folder, through links; one that leads back to a folder above it is not followed."""
    for top, folders, names in os.walk(folder, followlinks=True):
        above = {Path(top).resolve(), *Path(top).resolve().parents}
        folders[:] = [name for name in folders if Path(top, name).resolve() not in above]
        yield from (Path(top, name) for name in names)
