"""The files of the smartphone and smartwatch recordings: one archive of arrays, or the release as CSV."""

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lkd.datamodules.download import Remote
from lkd.datamodules.files import find

CLASSES = ("SEATED", "STANDING_UP", "WALKING", "TURNING", "SITTING_DOWN")
DEVICES = {"phone": "sp", "watch": "sw"}  # as they are called here, and in the names of files
ARCHIVE = "har_spsw.npz"
TABLES = "s*/s*_s[pw].csv"
FIELDS = ("x_acc", "y_acc", "z_acc", "x_gyro", "y_gyro", "z_gyro")
# The authors' repository at the commit whose files we have read; CC BY 4.0. GitHub packs it anew, so no hash.
RELEASE = Remote(
    "https://github.com/GeoTecINIT/sp-sw-har-dataset/archive/673a2cc426707706c8a2578951b6b61b88777d78.zip"
)


class Stream(NamedTuple):
    """What one device recorded, n rows."""

    t: np.ndarray  # (n,) int64, ms: when a row arrived
    x: np.ndarray  # (n, 6) float32: acceleration with gravity in m/s^2, rotation in rad/s, x y z each
    y: np.ndarray  # (n,) int64: place in `CLASSES`


class Recording(NamedTuple):
    """One execution: a person gets up, walks, turns, walks back, turns and sits down."""

    subject: str  # "s01"
    execution: str  # "s01_03"
    orientation: str  # of the phone in the pocket
    streams: dict[str, Stream]  # by device


def read_recordings(root: Path) -> list[Recording]:
    """Reads `har_spsw.npz`, or else the CSV files of the release, in `root` or up to two folders below.

    Args:
        root: folder of either; the phone's orientations are in `executions_info.csv` beside them.

    Returns:
        The recordings by subject and execution, an orientation being "unknown" where it is not listed.

    Raises:
        FileNotFoundError: if there are neither.
        ValueError: for a file that is not of the format, or an execution without one of the devices.
    """
    if found := find(root, [ARCHIVE]):
        streams, folder = _read_archive(found[0]), found[0].parent
    elif found := find(root, [TABLES]):
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
    """Streams by names such as "s01_01_sp", from arrays `<name>/x`, `/t` and `/y` and the names `labels`."""
    with np.load(path, allow_pickle=False) as arrays:
        names = sorted({key[:-2] for key in arrays.files if re.fullmatch(r"s\d+_\d+_s[pw]/x", key)})
        if not names or "labels" not in arrays.files:
            raise ValueError(f"{path} must hold `labels` and arrays like s01_01_sp/x, /t and /y.")
        place = _codes(arrays["labels"].tolist(), path)
        streams = {}
        for name in names:
            t, x, y = (arrays[f"{name}/{part}"] for part in "txy")
            streams[name] = Stream(t.astype(np.int64), x.astype(np.float32, copy=False), place[y])
    return streams


def _read_table(path: Path) -> Stream:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        names = next(reader, [])
        if missing := [name for name in (*FIELDS, "timestamp", "label") if name not in names]:
            raise ValueError(f"{path} has no column {missing[0]!r}; its columns are {', '.join(names)}.")
        table = dict(zip(names, zip(*reader, strict=True), strict=False))
    if not table:
        raise ValueError(f"{path} holds no rows.")
    x = np.stack([np.array(table[name], dtype=np.float64) for name in FIELDS], axis=1)
    return Stream(
        np.array(table["timestamp"], dtype=np.int64), x.astype(np.float32), _codes(table["label"], path)
    )


def _codes(labels: Iterable[str], path: Path) -> np.ndarray:
    """The place of every label in `CLASSES`."""
    known = {name: place for place, name in enumerate(CLASSES)}
    try:
        return np.array([known[label] for label in labels], dtype=np.int64)
    except KeyError as error:
        raise ValueError(f"{path}: {error} is none of the activities {', '.join(CLASSES)}.") from error


def _orientations(path: Path) -> dict[str, str]:
    """The phone's orientation by execution; none where the file is missing."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["execution_id"]: row["orientation"] for row in csv.DictReader(file)}
