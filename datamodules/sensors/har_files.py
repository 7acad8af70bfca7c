"""The files of the smartphone and smartwatch recordings: one archive of arrays, or the release as CSV."""

import csv
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lkd.datamodules.io.download import Remote
from lkd.datamodules.io.files import find
from lkd.text_files import read_rows, read_text

CLASSES = ("SEATED", "STANDING_UP", "WALKING", "TURNING", "SITTING_DOWN")
DEVICES = {"phone": "sp", "watch": "sw"}  # name here, and name in the files
ARCHIVE = "har_spsw.npz"
TABLES = "s*/s*_s[pw].csv"
ARRAYS = r"labels|s\d+_\d+_s[pw]/[txy]"
FIELDS = ("x_acc", "y_acc", "z_acc", "x_gyro", "y_gyro", "z_gyro")
# The authors' repository at the commit whose files we have read; CC BY 4.0. GitHub packs it anew, so no hash.
RELEASE = Remote(
    "https://github.com/GeoTecINIT/sp-sw-har-dataset/archive/673a2cc426707706c8a2578951b6b61b88777d78.zip"
)


class Stream(NamedTuple):
    """Rows that one device recorded, n in number."""

    t: np.ndarray  # (n,) int64, ms: when a row arrived
    x: np.ndarray  # (n, 6) float32: acceleration with gravity in m/s^2, rotation in rad/s, x y z each
    y: np.ndarray  # (n,) int64: place in `CLASSES`


class Recording(NamedTuple):
    """One execution: a person gets up, walks, turns, walks back, turns and sits down."""

    subject: str  # "s01"
    execution: str  # "s01_03"
    orientation: str  # orientation of the phone in the pocket
    streams: dict[str, Stream]  # by device


def read_recordings(root: Path) -> list[Recording]:
    """Reads `har_spsw.npz`, or else the CSV files of the release, in `root` or up to two folders below.

    Args:
        root: folder with either; the phone's orientations are in `executions_info.csv` beside them.

    Returns:
        The recordings by subject and execution; an orientation is "unknown" where it is not listed.

    Raises:
        FileNotFoundError: if neither exists.
        ValueError: for a file that is damaged or not of the format, a reading that is no finite number, time
            that runs backwards, or an execution without one of the devices; the message names file and row.
    """
    if found := find(root, [ARCHIVE]):
        streams, folder = _read_archive(found[0]), found[0].parent
    elif found := find(root, [TABLES]):
        (name, count), *_ = Counter(path.name for path in found).most_common(1)
        if count > 1:
            raise ValueError(f"{root} holds {count} files {name}, of which one is the execution: keep that.")
        streams, folder = {path.stem: _read_table(path) for path in found}, found[0].parent.parent
    else:
        raise FileNotFoundError(f"{root} holds neither {ARCHIVE} nor files like s01/s01_01_sp.csv.")
    orientations = _orientations(folder / "executions_info.csv")
    recordings = []
    for name in sorted({key[: -len("_sp")] for key in streams}):
        if missing := [code for code in DEVICES.values() if f"{name}_{code}" not in streams]:
            raise ValueError(
                f"{folder}: execution {name} lacks {name}_{missing[0]}; both devices are needed."
            )
        both = {device: streams[f"{name}_{code}"] for device, code in DEVICES.items()}
        recordings.append(Recording(name.split("_")[0], name, orientations.get(name, "unknown"), both))
    return recordings


def _read_archive(path: Path) -> dict[str, Stream]:
    """Reads streams by names such as "s01_01_sp", from arrays `<name>/x`, `/t` and `/y` and `labels`."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no zip, or cut off")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if re.fullmatch(ARRAYS, name)}
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged, or no archive of arrays: {error}.") from error
    names = sorted(name[:-2] for name in arrays if name.endswith("/x"))
    if not names or "labels" not in arrays:
        raise ValueError(f"{path} must hold `labels` and arrays like s01_01_sp/x, /t and /y.")
    place, streams = _codes(arrays["labels"].tolist(), path), {}
    for name in names:
        if missing := [part for part in "ty" if f"{name}/{part}" not in arrays]:
            raise ValueError(f"{path} has {name}/x, but no {name}/{missing[0]}.")
        t, x, y = (arrays[f"{name}/{part}"] for part in "txy")
        if y.dtype.kind not in "iu" or y.min(initial=0) < 0 or y.max(initial=0) >= len(place):
            raise ValueError(f"{path}: {name}/y must be numbers of `labels`, 0 to {len(place) - 1}.")
        rows = [f"{path}, {name}, row {row}" for row in range(len(t))]
        streams[name] = _checked(t, x, place[y], rows, f"{path}, {name}")
    return streams


def _read_table(path: Path) -> Stream:
    """Reads the stream of one CSV file."""
    reader = csv.reader(read_text(path).splitlines())
    names, rows, places = next(reader, []), [], []
    if missing := [name for name in (*FIELDS, "timestamp", "label") if name not in names]:
        raise ValueError(f"{path} has no column {missing[0]!r}; its columns are {', '.join(names)}.")
    for row in filter(None, reader):
        rows.append(row)
        places.append(f"{path}, line {reader.line_num}")
        if len(row) != len(names):
            raise ValueError(f"{places[-1]}: has {len(row)} values for {len(names)} columns.")
    table = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(names, ())
    x = np.stack([_numbers(table[name], name, places) for name in FIELDS], axis=1)
    t = _numbers(table["timestamp"], "timestamp", places)
    return _checked(t, x, _codes(table["label"], path), places, str(path))


def _numbers(texts: Sequence[str], name: str, places: Sequence[str]) -> np.ndarray:
    """Returns a column (n,) of a table; time stamps in ms are well within the whole numbers of float64."""
    try:
        return np.array(texts, dtype=np.float64)
    except ValueError:
        for text, place in zip(texts, places, strict=True):
            try:
                float(text)
            except ValueError as error:
                raise ValueError(f"{place}: {name}={text!r} is no number.") from error
        raise


def _checked(t: np.ndarray, x: np.ndarray, y: np.ndarray, places: Sequence[str], whole: str) -> Stream:
    """Returns a stream after a check: one NaN would spoil the mean of its sensor, and with it every window.

    Args:
        t: time stamps.
        x: readings.
        y: places in `CLASSES`.
        places: file and row of each row, for messages.
        whole: the same for the stream.
    """
    if not len(t):
        raise ValueError(f"{whole} holds no rows.")
    if t.dtype.kind not in "iuf" or x.dtype.kind not in "iuf":
        raise ValueError(f"{whole}: t and x must be numbers, not {t.dtype} and {x.dtype}.")
    if t.shape != (len(t),) or x.shape != (len(t), len(FIELDS)) or y.shape != (len(t),):
        raise ValueError(
            f"{whole}: t is of shape {t.shape}, x of {x.shape} and y of {y.shape}, but must be (n,), (n, {len(FIELDS)}) and (n,)."
        )
    with np.errstate(over="ignore"):  # the next line finds overflows
        x = x.astype(np.float32, copy=False)
    if len(bad := np.flatnonzero(~np.isfinite(x).all(1))):
        values = ", ".join(f"{name}={value}" for name, value in zip(FIELDS, x[bad[0]], strict=True))
        raise ValueError(f"{places[bad[0]]}: {values} are not all finite numbers.")
    if not np.isfinite(t).all() or (t != np.floor(t)).any():
        raise ValueError(f"{whole}: time stamps must be whole milliseconds.")
    if len(back := np.flatnonzero(np.diff(t.astype(np.int64)) < 0)):
        row = back[0] + 1
        raise ValueError(
            f"{places[row]}: time runs backwards, from {t[row - 1]:.0f} to {t[row]:.0f} ms; sort the rows."
        )
    return Stream(t.astype(np.int64), x, y)


def _codes(labels: Iterable[str], path: Path) -> np.ndarray:
    """Returns the place of every label in `CLASSES`."""
    known = {name: place for place, name in enumerate(CLASSES)}
    try:
        return np.array([known[label] for label in labels], dtype=np.int64)
    except KeyError as error:
        raise ValueError(f"{path}: {error} is none of the activities {', '.join(CLASSES)}.") from error


def _orientations(path: Path) -> dict[str, str]:
    """Reads the phone's orientation by execution; empty if the file is missing."""
    if not path.is_file():
        return {}
    rows = read_rows(path, ("execution_id", "orientation"))
    return {row["execution_id"]: row["orientation"] for _, row in rows}
