"""What is found, as CSV and JSON lines; each frame's rows are written at once, so that an end at any time leaves whole ones."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from lkd.edge.predict.frame import Found, Frame


class Results(Protocol):
    """Where what was found goes.

    Attributes:
        paths: The files.
    """

    paths: list[Path]

    def write(self, frame: Frame, found: Found) -> None:
        """Writes what was found in a frame."""
        ...

    def close(self) -> None:
        """Closes the files."""
        ...


class Rows:
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
        """Appends rows, all at once."""
        if rows:
            text = io.StringIO(newline="")
            csv.writer(text).writerows(rows)
            self.text(text.getvalue())

    def text(self, text: str) -> None:
        """Appends whole lines."""
        self._file.write(text)
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class BoxFiles:
    """`boxes.csv`, a row a box; `boxes.jsonl`, a line a frame; `counts.csv`, a row a frame.

    Boxes are x1, y1, x2, y2 in pixels of the picture. With tracks a box has the `id` of its track, -1 where it has none.

    Args:
        folder: Where to.
        classes: Names.
        tracks: Whether boxes have `ids`.
        suffix: Of the names, such as `.rank1`.
    """

    def __init__(self, folder: Path, classes: Sequence[str], tracks: bool = False, suffix: str = "") -> None:
        self.classes, self.tracks = list(classes), tracks
        self.boxes = Rows(
            folder / f"boxes{suffix}.csv", ["class", "score", "x1", "y1", "x2", "y2", *["id"] * tracks]
        )
        self.counts = Rows(folder / f"counts{suffix}.csv", ["all", *(f"n_{name}" for name in classes)])
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
        """Closes the files."""
        self.boxes.close()
        self._lines.close()
        self.counts.close()


class ProbabilityFile:
    """`predictions.csv`: the likeliest class of each frame, its probability, and those of all classes.

    Args:
        folder: Where to.
        classes: Names.
        suffix: Of the name.
    """

    def __init__(self, folder: Path, classes: Sequence[str], suffix: str = "") -> None:
        self.classes = list(classes)
        self.rows = Rows(
            folder / f"predictions{suffix}.csv", ["class", "probability", *(f"p_{name}" for name in classes)]
        )
        self.paths = [self.rows.path]

    def write(self, frame: Frame, found: Found) -> None:
        """Writes a row."""
        self.rows.add(
            [[frame.source, frame.number, seconds(frame), *self.columns(found["probabilities"].tolist())]]
        )

    def columns(self, probabilities: Sequence[float]) -> list[Any]:
        """Class, probability, and all of them."""
        each = [round(p, 6) for p in probabilities]
        best = max(range(len(each)), key=probabilities.__getitem__)
        return [self.classes[best], each[best], *each]

    def close(self) -> None:
        """Closes the file."""
        self.rows.close()


def opened(path: Path) -> IO[str]:
    r"""A text file to be written; of a picture's name that is no text in UTF-8 it gets `\udce9` for the byte e9."""
    return path.open("w", newline="", encoding="utf-8", errors="backslashreplace")


def seconds(frame: Frame) -> Any:
    """A frame's time as a table has it: to the millisecond, and empty where nobody knows it."""
    return "" if frame.time is None else round(frame.time, 3)
