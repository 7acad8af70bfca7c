"""Small helpers around files: what must exist, what lies at unsure depth, pictures in folders, text in any encoding."""

import codecs
import csv
import gzip
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePath

from lkd.datamodules.left_out import LeftOut
from lkd.picture_files import IMAGES, NOTES, is_hidden, walk

PARTS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}  # folders' names


def check_folder(path: Path, what: str) -> Path:
    """Returns `path` if it is a folder; else raises FileNotFoundError or NotADirectoryError: `what` belongs there."""
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file: set root to the folder that holds {what}.")
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


def read_text(path: Path) -> str:
    """The text of a file, which may be gzipped (`.gz`): UTF-8, with or without a byte-order mark, or UTF-16 with one.

    Raises:
        ValueError: if it is neither, or damaged; the message names the file, and the line.
    """
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is damaged and cannot be unpacked ({error}).") from error
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, line {line}: is not text in UTF-8 ({error.reason}); save it so."
        ) from error


def read_rows(path: Path, columns: Collection[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file, which may be gzipped, each after its file and line.

    Args:
        path: the file; its first line names the columns.
        columns: those that it must have.

    Raises:
        ValueError: if one is missing, or a row has more or fewer values; and as of `read_text`.
    """
    beyond = "\0"  # no column's name
    reader = csv.DictReader(read_text(path).splitlines(), restkey=beyond)
    if missing := sorted(set(columns) - set(reader.fieldnames or ())):
        raise ValueError(f"{path}, line 1: has no column {' and '.join(missing)}, but {reader.fieldnames}.")
    for row in reader:
        place = f"{path}, line {reader.line_num}"
        if any(row.pop(beyond, ())) or None in row.values():
            raise ValueError(
                f"{place}: has more or fewer values than the {len(reader.fieldnames or ())} columns."
            )
        yield place, row


def read_lines(path: Path) -> list[str]:
    """Non-empty lines of a text file, without the space around them; see `read_text`."""
    return [line for raw in read_text(path).splitlines() if (line := raw.strip())]


def is_image(path: PurePath, left_out: LeftOut | None = None) -> bool:
    """Whether a file, by its name, is a picture that can be read; counts files that are neither that nor notes."""
    if path.suffix.lower() in IMAGES:
        return True
    if left_out is not None and path.suffix.lower() not in NOTES:
        left_out.add(f"files with the suffix {path.suffix or '(none)'}, which is not read", path)
    return False


def list_images(folder: Path, left_out: LeftOut | None = None, deep: bool = False) -> list[Path]:
    """Image files in `folder`, sorted by path; hidden files are passed over.

    Args:
        folder: where.
        left_out: counts the files that are neither pictures nor notes (labels, lists, ...).
        deep: look into the folders below, too, through links.
    """
    files = walk(folder) if deep else (path for path in folder.iterdir() if path.is_file())
    found = (path for path in files if not is_hidden(path.relative_to(folder)))
    return sorted(path for path in found if is_image(path, left_out))
