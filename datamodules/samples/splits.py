"""Splits by time within a camera, and selections with helpful errors."""

import difflib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.natural_order import natural_key


class Timed(Protocol):
    """Anything with a camera and a time: a frame, a patch."""

    @property
    def camera(self) -> str:
        """Name of the item's camera."""
        ...

    @property
    def time(self) -> str:
        """Time as sortable text."""
        ...


T = TypeVar("T", bound=Timed)


class Splits(NamedTuple):
    """The three parts of a data set."""

    train: list
    val: list
    test: list


def check_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    """Returns (train, val, test) shares as given, or raises ValueError if they are no shares of a whole."""
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            f"fractions={tuple(fractions)} must be three shares (train, val, test), none negative, of sum 1."
        )
    return fractions[0], fractions[1], fractions[2]


def by_time(items: Iterable[T], fractions: Sequence[float] = (0.6, 0.2, 0.2)) -> Splits:
    """Splits every camera's frames by time: the first ones train, the next validate, the last ones test.

    Neighboring frames of a fixed camera look alike, so a random split would test on what was trained on.
    Items of one camera with the same time (the patches of one frame) stay together. Shares are rounded to
    whole times.

    Args:
        items: frames, or anything with a `camera` and a `time` (compared in natural order).
        fractions: shares of train, val and test; they add up to 1.

    Returns:
        The three lists, each sorted by camera and then time.

    Raises:
        ValueError: if `fractions` are not three shares of sum 1.

    Example:
        >>> from collections import namedtuple
        >>> Shot = namedtuple("Shot", "camera time")
        >>> parts = by_time([Shot("C1", str(t)) for t in (10, 9, 1, 2)], (0.5, 0.25, 0.25))
        >>> [[shot.time for shot in part] for part in parts]
        [['1', '2'], ['9'], ['10']]
    """
    train, val, _ = check_fractions(fractions)
    cameras: dict[str, dict[str, list[T]]] = {}
    for item in items:
        cameras.setdefault(item.camera, {}).setdefault(item.time, []).append(item)
    splits = Splits([], [], [])
    for camera in sorted(cameras, key=natural_key):
        times = sorted(cameras[camera], key=natural_key)
        # round(x + 1e-9): .6 * 5 must not fall under a half because of binary fractions
        first, second = (int(share * len(times) + 0.5 + 1e-9) for share in (train, train + val))
        for part, chosen in zip(splits, (times[:first], times[first:second], times[second:]), strict=True):
            part += [item for time in chosen for item in cameras[camera][time]]
    return splits


def complete(parts: Splits, fractions: Sequence[float] = (0.6, 0.2, 0.2)) -> Splits:
    """Cuts an empty part from the end, in time, of the part before it: val from train, test from val.

    It warns if a given val gives some of itself to the test; a test share of 0 keeps it whole.

    Args:
        parts: the parts as they are given; each is sorted by camera and then time.
        fractions: shares of train, val and test, by which a part is cut in two.

    Raises:
        ValueError: if `fractions` are not three shares of sum 1.

    Example:
        >>> from collections import namedtuple
        >>> Shot = namedtuple("Shot", "camera time")
        >>> given = Splits([Shot("C1", "1")], [Shot("C1", str(t)) for t in range(2, 6)], [])
        >>> [[shot.time for shot in part] for part in complete(given)]
        [['1'], ['2', '3'], ['4', '5']]
    """
    first, second, third = check_fractions(fractions)
    train, val, test = (by_time(part, (1.0, 0.0, 0.0)).train for part in parts)
    if not val and not test:
        return by_time(train, fractions)
    if not val and first + second > 0:
        train, val, _ = by_time(train, (first / (first + second), second / (first + second), 0.0))
    if not test and second + third > 0:
        given = bool(parts.val) and len(val)
        _, val, test = by_time(val, (0.0, second / (second + third), third / (second + third)))
        if given and test:
            rank_zero_warn(
                f"no test part is given, but val is: the last {len(test)} of its {given} samples, in time, are the test, by "
                f"fractions={tuple(fractions)}; for the whole of val let the third be 0, or name a test part."
            )
    return Splits(train, val, test)


def by_day(items: Iterable[T], fractions: Sequence[float] = (0.6, 0.2, 0.2)) -> Splits:
    """Splits by whole days, the same for all cameras: the first train, the next validate, the last test.

    Cars stay for hours, and several cameras look at the same slot, so a car of the morning may be seen again
    in the afternoon or by another camera. No day is in two parts.

    Args:
        items: patches, or anything with a `camera` and a `time` that begins with its date.
        fractions: shares of train, val and test, rounded to whole days, at least one for each share above 0.

    Returns:
        The three lists, each sorted by camera and then time.

    Raises:
        ValueError: if `fractions` are not three shares of sum 1, or there are fewer days than parts.

    Example:
        >>> from collections import namedtuple
        >>> Shot = namedtuple("Shot", "camera time")
        >>> shots = [Shot(camera, f"2015-11-{day}T08:00") for camera in ("C1", "C2") for day in (12, 13, 14)]
        >>> [sorted({shot.time[:10] for shot in part}) for part in by_day(shots)]
        [['2015-11-12'], ['2015-11-13'], ['2015-11-14']]
    """
    shares, found = check_fractions(fractions), list(items)
    days = sorted({item.time[:10] for item in found})
    parts = sum(share > 0 for share in shares)
    if found and len(days) < parts:
        raise ValueError(
            f"split='by_day' with fractions={shares} needs {parts} days at least, and there are {len(days)}: {', '.join(days)}."
        )
    order = {day: place for place, day in enumerate(days)}
    first = int(shares[0] * len(days) + 0.5 + 1e-9)
    second = int((shares[0] + shares[1]) * len(days) + 0.5 + 1e-9)
    # at least one day for every part with a share
    second = min(max(second, (shares[0] > 0) + (shares[1] > 0)), len(days) - (shares[2] > 0))
    first = min(max(first, int(shares[0] > 0)), second - (shares[1] > 0))
    splits = Splits([], [], [])
    for item in sorted(found, key=lambda one: (natural_key(one.camera), natural_key(one.time))):
        place = order[item.time[:10]]
        splits[(place >= first) + (place >= second)].append(item)
    return splits


def pick(name: str, wanted: Sequence[str] | None, available: Iterable[str]) -> list[str]:
    """Checks a selection against what exists.

    Args:
        name: the argument's name, for the message.
        wanted: the selection; `None` takes everything.
        available: what can be selected.

    Returns:
        The selection in natural order.

    Raises:
        ValueError: if something wanted does not exist (with the nearest names), or the selection is empty.

    Example:
        >>> pick("cameras", ["C2"], ["C1", "C2"])
        ['C2']
    """
    known = sorted(set(available), key=natural_key)
    if wanted is None:
        return known
    if not wanted:
        raise ValueError(f"{name}=[] selects nothing; leave it out (null) to take all of {known}.")
    for one in wanted:
        if one not in known:
            near = difflib.get_close_matches(str(one), known, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else "there is no similar name."
            raise ValueError(f"{name}: {one!r} is not among {known}; {hint}")
    return sorted(set(wanted), key=natural_key)
