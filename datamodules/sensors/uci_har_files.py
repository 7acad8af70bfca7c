"""The files of UCI-HAR: a zip in a zip, and windows as lines of numbers."""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from lkd.datamodules.io.download import Remote
from lkd.datamodules.io.fetched import require
from lkd.datamodules.io.files import find

CLASSES = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")  # 1 to 6
LENGTH = 128  # readings of a window, 2.56 s
HALVES = ("train", "test")
FIRST = "train/Inertial Signals/body_acc_x_train.txt"  # below the folder of the release
# The SHA-256 is the one that two public manifests agree on; we had no copy to measure.
RELEASE = Remote(
    "https://archive.ics.uci.edu/static/public/240/human+activity+recognition+using+smartphones.zip",
    "c00b803081a5c797cd5e4b83700a9810b38d53d9d84e01917e090e1fdbc81031",
)
ARCHIVES = ("human+activity+recognition+using+smartphones.zip", "UCI HAR Dataset.zip")  # outer and inner


class Portion(NamedTuple):
    """The W windows of the release's train or test folder, in its order."""

    x: dict[str, np.ndarray]  # "acc" in g, "gyro" in rad/s, each (W, 3, 128) float32
    y: np.ndarray  # (W,) int64: place in `CLASSES`
    subject: np.ndarray  # (W,) "s01" to "s30"
    recording: np.ndarray  # (W,) int64 from 0: windows of one recording follow each other


def require_release(root: Path, fetch: bool) -> Path:
    """Returns the folder `UCI HAR Dataset`, in `root` or up to two folders below.

    Unpacks zips in `root` first.

    Args:
        root: folder of the release, or of one of its zips.
        fetch: download what is missing (61 MB).

    Raises:
        FileNotFoundError: if neither exists and `fetch` is off, or the zips do not hold it.
    """
    require(root, [FIRST], RELEASE, fetch, ARCHIVES)
    return find(root, [FIRST])[0].parents[2]


def read_half(folder: Path, half: str, acceleration: Literal["body", "total"]) -> Portion:
    """Reads the windows of `train/` or `test/`.

    Consecutive windows of one person and one activity are one recording: only they overlap.

    Args:
        folder: folder of the release, `UCI HAR Dataset`.
        half: "train" or "test".
        acceleration: "body" without gravity, or "total".

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if files do not fit each other, or numbers are out of range; the message names the file.
    """
    y = _column(folder / half / f"y_{half}.txt", len(CLASSES)) - 1
    number = _column(folder / half / f"subject_{half}.txt")
    if len(y) != len(number):
        raise ValueError(
            f"{folder / half}: y_{half}.txt has {len(y)} lines and subject_{half}.txt {len(number)}: they must agree."
        )
    x = {}
    for name, signal in (("acc", f"{acceleration}_acc"), ("gyro", "body_gyro")):
        paths = [folder / half / "Inertial Signals" / f"{signal}_{axis}_{half}.txt" for axis in "xyz"]
        x[name] = np.stack([_signal(path, len(y)) for path in paths], axis=1)
    new = (y[1:] != y[:-1]) | (number[1:] != number[:-1])
    recording = np.concatenate([[0], np.cumsum(new)]).astype(np.int64)
    return Portion(x, y, np.array([f"s{n:02d}" for n in number]), recording)


def _column(path: Path, largest: int | None = None) -> np.ndarray:
    """Reads whole numbers (W,) from 1 on, one a line."""
    values = _table(path, np.int64)
    high = values.max(initial=0) if largest is None else largest
    wrong = np.flatnonzero((values < 1).any(1) | (values > high).any(1))
    if values.shape[1] != 1 or not len(values) or len(wrong):
        where = f"line {wrong[0] + 1} is {values[wrong[0]].tolist()}: it" if len(wrong) else "it"
        raise ValueError(
            f"{path}, {where} must have one number a line, from 1 on{f' to {largest}' if largest else ''}."
        )
    return values[:, 0]


def _signal(path: Path, count: int) -> np.ndarray:
    """Reads windows (W, 128) float32 of one axis."""
    values = _table(path, np.float32)
    if values.shape != (count, LENGTH):
        raise ValueError(
            f"{path} has {values.shape[0]} lines of {values.shape[1]} numbers; {count} of {LENGTH} are needed."
        )
    if len(bad := np.flatnonzero(~np.isfinite(values).all(1))):
        raise ValueError(f"{path}, line {bad[0] + 1}: not all of its numbers are finite.")
    return values


def _table(path: Path, dtype: type) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: unpack {RELEASE.url} anew.")
    try:
        return np.loadtxt(path, dtype=dtype, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path} is no table of numbers: {error}") from error
