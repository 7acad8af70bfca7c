"""Text and tables from files, in any common encoding, also gzipped; every error names file and line."""

import codecs
import csv
import gzip
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path


def read_text(path: Path) -> str:
    """Reads a file, which may be gzipped (`.gz`), as UTF-8, or as UTF-16 with a byte-order mark.

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
    """Yields the rows of a CSV file, which may be gzipped, each after its file and line.

    Args:
        path: the file; its first line names the columns.
        columns: names of the columns that it must have.

    Raises:
        ValueError: if a column is missing, or a row has more or fewer values; and as in `read_text`.
    """
    beyond = "\0"  # cannot be a column's name
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
    """Returns the non-empty lines of a text file, without surrounding space; see `read_text`."""
    return [line for raw in read_text(path).splitlines() if (line := raw.strip())]
