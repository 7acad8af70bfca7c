"""`Truth`: which slots are busy in which frame, where it is known."""

import csv
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Self

from lkd.edge.predict.frame import Frame
from lkd.edge.predict.parking.slots import Slots
from lkd.slot_labels import read_patches
from lkd.slot_maps import read_spaces
from lkd.text_files import read_rows, read_text

Key = Literal["picture", "frame", "time"]
_STATES = {"0": False, "free": False, "1": True, "busy": True}
Row = tuple[str, str, str, bool]
"""A known state: its place in the file; picture, frame or time; slot; and whether it is busy."""


class Truth:
    """Known states of slots.

    Args:
        rows: The states.
        by: What the states belong to: pictures (by the name of the file, without folder and suffix), frames
            (by number), or a time in seconds from which they hold (until the slot's next state).
        slots: The map; states of other slots are left out.
        path: File that they were read from, for messages.

    Attributes:
        left_out: Number of states of slots that the map does not have.

    Raises:
        ValueError: If two states contradict each other, a time or number is invalid, or no slot is on the
            map.
    """

    def __init__(self, rows: Iterable[Row], by: Key, slots: Slots, path: str) -> None:
        self.by, self.path, self.left_out = by, path, 0
        self._notes: dict[str | float, dict[str, bool]] = {}
        for place, key, slot, busy in rows:
            if slot not in slots.names:
                self.left_out += 1
                continue
            if self._notes.setdefault(_read(key, by, place), {}).setdefault(slot, busy) is not busy:
                raise ValueError(f"{place}: slot {slot} is both free and busy at {by} {key}.")
        if not self._notes:
            raise ValueError(
                f"truth={path!r} says nothing of the slots of {slots.path} ({', '.join(slots.names[:5])}, ...): it is of another "
                "camera, or calls its slots otherwise."
            )
        if self.left_out:
            warnings.warn(
                f"truth={path!r} has {self.left_out} notes of slots that {slots.path} does not have: they are left out.",
                stacklevel=2,
            )
        self._ahead = sorted(self._notes.items(), key=lambda note: float(note[0])) if by == "time" else []
        self._now: dict[str, bool] = {}
        self._at = 0

    @classmethod
    def read(cls, path: str | Path, slots: Slots) -> Self:
        """Reads known states: a table, CNRPark-EXT's list or table of patches, or PKLot's `.xml` files.

        A table is a `.csv` with the columns `slot`, `busy` (0 or 1, free or busy), and one of `picture` (name
        of the file), `frame` (number) or `time` (seconds; it holds until the slot's next row).

        Args:
            path: The file, which may be gzipped, or PKLot's folder with an `.xml` for each picture.
            slots: The map. From CNRPark-EXT's list, the patches of its camera are taken.

        Raises:
            FileNotFoundError: If there is no such file or folder.
            ValueError: If it cannot be read, or belongs to another camera.
        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(
                f"truth={str(path)!r} does not exist; give a .csv, a list of patches, or a folder of .xml."
            )
        if path.is_dir() or path.suffix.lower() == ".xml":
            return cls(_pklot(path), "picture", slots, str(path))
        first = read_text(path).split("\n", 1)[0].strip()
        if not first.startswith("camera,") and "," in first:
            (by, rows) = _table(path, [name.strip() for name in next(csv.reader([first]))])
            return cls(rows, by, slots, str(path))
        return cls(_cnrpark(path, slots), "picture", slots, str(path))

    def check_pictures(self, paths: Sequence[Path]) -> None:
        """Refuses pictures without a known state, before they are looked at.

        Raises:
            ValueError: If no state belongs to any of them, or states are by time, which pictures do not have.
        """
        if self.by == "time":
            raise ValueError(
                f"truth={self.path!r} is by time, and pictures have none: give a table with the column picture or frame."
            )
        if self.by == "picture" and not any(path.stem in self._notes for path in paths):
            raise ValueError(
                f"truth={self.path!r} says nothing of any of the {len(paths)} pictures, such as {paths[0].name}; it names "
                f"{', '.join(map(str, list(self._notes)[:3]))}, ...: pictures are found by their names, without folder and suffix."
            )

    def of(self, frame: Frame) -> dict[str, bool]:
        """Returns what is known of a frame: whether busy, by the slot's name; empty if nothing is known.

        Frames of a clip must come in their order if states are by time.
        """
        match self.by:
            case "picture":
                return self._notes.get(Path(frame.source).stem, {})
            case "frame":
                return self._notes.get(frame.number, {})
        while (
            frame.time is not None
            and self._at < len(self._ahead)
            and float(self._ahead[self._at][0]) <= frame.time
        ):
            self._now |= self._ahead[self._at][1]
            self._at += 1
        return dict(self._now)


def _read(key: str, by: Key, place: str) -> str | float:
    try:
        read: str | float = key if by == "picture" else int(key) if by == "frame" else float(key)
    except ValueError as error:
        raise ValueError(f"{place}: {by}={key!r} is no number.") from error
    if read != read:  # NaN has no place in time and would hide all that comes after it
        raise ValueError(f"{place}: {by}={key!r} is no number.")
    return read


def _table(path: Path, columns: list[str]) -> tuple[Key, Iterator[Row]]:
    keys: list[Key] = ["picture", "frame", "time"]
    found = [key for key in keys if key in columns]
    if len(found) != 1 or not {"slot", "busy"} <= set(columns):
        raise ValueError(
            f"truth={str(path)!r} has the columns {', '.join(columns)}; a table has slot, busy, and one of picture, frame or time."
        )
    return found[0], _rows(path, found[0])


def _rows(path: Path, by: Key) -> Iterator[Row]:
    for place, row in read_rows(path, (by, "slot", "busy")):
        if (state := row["busy"].strip().lower()) not in _STATES:
            raise ValueError(f"{place}: busy={row['busy']!r} must be 0 or 1, free or busy.")
        key = row[by].strip()
        yield place, Path(key).stem if by == "picture" else key, row["slot"].strip(), _STATES[state]


def _pklot(path: Path) -> Iterator[Row]:
    """Reads PKLot's files, each `.xml` belonging to the picture of its name."""
    files = sorted(path.glob("*.xml")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"truth={str(path)!r} is a folder without .xml files of PKLot.")
    for file in files:
        for space in read_spaces(file):
            if space.busy is not None:
                yield f"{file}, space {space.name}", file.stem, space.name, space.busy


def _cnrpark(path: Path, slots: Slots) -> Iterator[Row]:
    """Reads CNRPark-EXT's states, whose pictures are named by day and time, `2015-11-12_0709`."""
    if slots.camera is None or not re.fullmatch(r"C\d+", slots.camera):
        raise ValueError(
            f"truth={str(path)!r} is a list of CNRPark-EXT, and the map {slots.path} does not say of which of its cameras it is."
        )
    for patch in read_patches(path):
        if patch.camera == slots.camera:
            day, time = patch.time.split("T")
            yield patch.path, f"{day}_{time.replace(':', '')}", str(patch.slot), patch.label == 1
