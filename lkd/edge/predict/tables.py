"""Findings as CSV and JSON lines.

Each frame's rows are written at once, so that the files are always complete.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from lkd.edge.predict.frame import Found, Frame


class Results(Protocol):
    """A writer of findings.

    Attributes:
        paths: The files.
    """

    paths: list[Path]

    def write(self, frame: Frame, found: Found) -> None:
        """Writes what was found in a frame."""
        ...

    def close(self) -> None:
        """Closes the files that it writes."""
        ...


class CSVFile:
    """A CSV file that grows by whole rows.

    Args:
        path: The file.
        header: Names of the columns; the first three are always `source`, `frame` and `time`.
    """

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        self.path = path
        self._file = opened(path)
        self.add([["source", "frame", "time", *header]])

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Appends rows, all of them at once."""
        if rows:
            text = io.StringIO(newline="")
            csv.writer(text).writerows(rows)
            self.text(text.getvalue())

    def text(self, text: str) -> None:
        """Appends lines that are complete."""
        self._file.write(text)
        self._file.flush()

    def close(self) -> None:
        """Closes the CSV file."""
        self._file.close()


class BoxFiles:
    """`boxes.csv`, a row for each box; `boxes.jsonl`, a line, and `counts.csv`, a row for each frame.

    Boxes are x1, y1, x2, y2 in pixels of the picture. With tracks a box has the `id` of its track, or -1
    without one.

    Args:
        folder: Folder to write into.
        classes: Names of the classes.
        tracks: Whether boxes have `ids`.
        suffix: Suffix of the file names, such as `.rank1`.
    """

    def __init__(self, folder: Path, classes: Sequence[str], tracks: bool = False, suffix: str = "") -> None:
        self.classes, self.tracks = list(classes), tracks
        self.boxes = CSVFile(
            folder / f"boxes{suffix}.csv", ["class", "score", "x1", "y1", "x2", "y2", *["id"] * tracks]
        )
        self.counts = CSVFile(folder / f"counts{suffix}.csv", ["all", *(f"n_{name}" for name in classes)])
        self._lines = opened(folder / f"boxes{suffix}.jsonl")
        self.paths = [self.boxes.path, Path(self._lines.name), self.counts.path]

    def write(self, frame: Frame, found: Found) -> None:
        """Writes the boxes of a frame."""
        names = [self.classes[int(label)] for label in found["labels"]]
        scores = [round(score, 5) for score in found["scores"].tolist()]
        boxes = [[round(side, 2) for side in box] for box in found["boxes"].tolist()]
        who = [frame.source, frame.number, seconds(frame)]
        ids = [[int(one)] for one in found["ids"]] if self.tracks else [[] for _ in names]
        self.boxes.add(
            [[*who, *row, *box, *one] for *row, box, one in zip(names, scores, boxes, ids, strict=True)]
        )
        entries = [
            {"class": name, "score": score, "box": box, **({"id": one[0]} if one else {})}
            for name, score, box, one in zip(names, scores, boxes, ids, strict=True)
        ]
        height, width = frame.image.shape[:2]
        line = {
            "source": frame.source,
            "frame": frame.number,
            "time": frame.time,
            "width": width,
            "height": height,
        }
        self._lines.write(json.dumps({**line, "boxes": entries}, ensure_ascii=False) + "\n")
        self._lines.flush()
        counts = np.bincount(found["labels"].astype(np.int64), minlength=len(self.classes))
        self.counts.add([[*who, len(names), *counts.tolist()]])

    def close(self) -> None:
        """Closes all three files."""
        self.boxes.close()
        self._lines.close()
        self.counts.close()


class ProbabilityFile:
    """`predictions.csv`: the likeliest class of each frame, its probability, and those of all classes.

    Args:
        folder: Folder to write into.
        classes: Names of the classes.
        suffix: Suffix of the file name.
    """

    def __init__(self, folder: Path, classes: Sequence[str], suffix: str = "") -> None:
        self.classes = list(classes)
        self.rows = CSVFile(
            folder / f"predictions{suffix}.csv", ["class", "probability", *(f"p_{name}" for name in classes)]
        )
        self.paths = [self.rows.path]

    def write(self, frame: Frame, found: Found) -> None:
        """Writes the row of a frame."""
        self.rows.add(
            [[frame.source, frame.number, seconds(frame), *self.columns(found["probabilities"].tolist())]]
        )

    def columns(self, probabilities: Sequence[float]) -> list[Any]:
        """Returns the likeliest class, its probability, and the probabilities of all classes."""
        each = [round(p, 6) for p in probabilities]
        best = max(range(len(each)), key=probabilities.__getitem__)
        return [self.classes[best], each[best], *each]

    def close(self) -> None:
        """Closes the CSV file."""
        self.rows.close()


def opened(path: Path) -> IO[str]:
    r"""Opens a text file for writing; in a picture's name that is no UTF-8, byte e9 becomes `\udce9`."""
    return path.open("w", newline="", encoding="utf-8", errors="backslashreplace")


def seconds(frame: Frame) -> Any:
    """Returns a frame's time for a table: to the millisecond, and empty if it is not known."""
    return "" if frame.time is None else round(frame.time, 3)
