"""The camera of a frame and the time it was taken: a clip says it, pictures have it in their names."""

import calendar
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from lkd.edge.predict.frame import Frame, FrameSource
from lkd.edge.predict.sources import PictureSource
from lkd.natural_order import DECIMAL

Moment = tuple[str, float]
"""Camera, and time in seconds."""

_DATED = re.compile(
    r"(?<!\d)((?:19|20)\d\d)[-_.]?(\d\d)[-_.]?(\d\d)[-_.T ]*(\d\d)[-_.:h]?(\d\d)"
    r"(?:[-_.:m]?(\d\d)(?:[.,](\d{6}|\d{3}))?)?(?!\d)"
)
_NUMBERED = re.compile(rf"(.*?)({DECIMAL}|\d+)(\D*)$", re.DOTALL)
_BEHIND_A_DATE = re.compile(
    r"(.*(?<!\d)(?:19|20)\d\d[-_.]?\d\d[-_.]?\d\d[-_. ]+)(\d{6}|\d{4})(\D.*)?$", re.DOTALL
)
"""A date, and digits that are a time of day (0709, 070901) or a counter (0001, 000001)."""


class FrameMoments:
    """Camera and time of each frame of a source.

    From now on, pictures are taken in the order of camera and time, whatever the order of their names, since
    an answer can only be reused later.

    Args:
        source: Source of the frames; the paths of a `PictureSource` are put in order.
        step_s: Seconds between two pictures with consecutive numbers; None if names have date and time.

    Attributes:
        reordered: Whether the order of the paths has changed, so that frames have other numbers now.

    Raises:
        ValueError: If a picture has no time, if two of a camera have the same time, if no camera has two, if
            `step_s` is given although no picture is numbered, or if it is not, and numbers behind a date may
            be a counter.
    """

    def __init__(self, source: FrameSource, step_s: float | None = None) -> None:
        self._of: dict[str, Moment] | None = None
        self.reordered = False
        if not isinstance(source, PictureSource):
            if step_s is not None:
                raise ValueError(
                    f"reuse: step_s={step_s:g} is of numbered pictures, and frames of a clip or a stream have times: leave it out."
                )
            return
        counter = _counter(source.paths)
        if counter is not None and step_s is None:
            raise ValueError(
                f"reuse: the digits behind the date in {counter.name} may be a counter or a time of day, as they rise one by one from the "
                "start of the day: say how many seconds lie between two of them, as --reuse '{step_s: 60}'."
            )
        found = {path: _moment(path, step_s, counter is not None) for path in source.paths}
        if step_s is not None and counter is None and all(_date(path.stem) for path in source.paths):
            raise ValueError(
                f"reuse: step_s={step_s:g} is of numbered pictures, and names such as {source.paths[0].name} say date and time: "
                "leave it out."
            )
        _check(found)
        before = list(source.paths)
        source.paths.sort(key=found.__getitem__)
        self.reordered = source.paths != before
        self._of = {str(path): when for path, when in found.items()}

    def __call__(self, frame: Frame) -> Moment:
        """Returns the camera, and the time in seconds.

        Raises:
            ValueError: If the frame has no time.
        """
        if self._of is not None:
            return self._of[frame.source]
        if frame.time is None:
            raise ValueError(
                f"reuse: frame {frame.number} of {frame.source} has no time, and age is counted by it."
            )
        return frame.source, frame.time


def moment(path: Path, step_s: float | None = None) -> Moment:
    """Reads a picture's name: its camera is folder and name without the time, or without the last number.

    Args:
        path: The picture.
        step_s: Seconds between two consecutive numbers.

    Raises:
        ValueError: If the name has neither a date with a time nor, with `step_s`, a number.

    Example:
        >>> moment(Path("gate/2015-11-12_0709.jpg"))
        ('gate', 1447312140.0)
        >>> moment(Path("images/cam1_road_12.jpg"), step_s=0.5)
        ('images/cam1_road', 6.0)
        >>> moment(Path("gate_1.25.jpg"), step_s=1)
        ('gate', 1.25)
    """
    if dated := _date(path.stem):
        when, rest = dated
        return _camera(path, rest), when
    if not (numbered := _NUMBERED.match(path.stem)):
        raise ValueError(
            f"reuse: {path} has neither a date with a time in its name, as 2015-11-12_0709, nor a number, as cam1_12: pictures "
            "without order in time cannot be reused; leave --reuse out."
        )
    if step_s is None:
        raise ValueError(
            f"reuse: {path} has a number and no date with a time in its name, and age is counted in seconds: say how many lie "
            "between two numbers, as --reuse '{step_s: 0.5}'."
        )
    return _camera(path, f"{numbered[1]}-{numbered[3]}"), float(numbered[2]) * step_s


def _check(found: dict[Path, Moment]) -> None:
    """Refuses names that do not tell pictures apart, or give each its own camera, as a counter at the end."""
    first: dict[Moment, Path] = {}
    for path, when in found.items():
        if (other := first.setdefault(when, path)) != path:
            raise ValueError(
                f"reuse: {other} and {path} are by their names of the same camera, {when[0]}, and time: leave one out, or name "
                "them so that they differ in one of these."
            )
    if len(found) > 1 and len({camera for camera, _ in first}) == len(found):
        path, (camera, _) = next(iter(found.items()))
        raise ValueError(
            f"reuse: each of the {len(found)} pictures is by its name of a camera of its own, as {path} of {camera!r}, so that no answer "
            "could be given again: name them by camera and time alone, or leave --reuse out."
        )


def _moment(path: Path, step_s: float | None, counted: bool) -> Moment:
    """As `moment`, where digits behind a date may be a counter."""
    if counted and step_s is not None and (found := _BEHIND_A_DATE.match(path.stem)):
        return _camera(path, f"{found[1]}-{found[3] or ''}"), int(found[2]) * step_s
    return moment(path, step_s)


def seconds(text: str, step_s: float | None = None) -> float | None:
    """Reads a time: a date with a time of day, or a number of steps; None if it is neither.

    Args:
        text: The time, as data give it.
        step_s: Seconds between two consecutive numbers; None if numbers are no times.

    Example:
        >>> seconds("2015-11-12T07:09"), seconds("12", step_s=0.5), seconds("12.5", step_s=2), seconds("12")
        (1447312140.0, 6.0, 25.0, None)
    """
    if dated := _date(text):
        return dated[0]
    number = re.fullmatch(rf"{DECIMAL}|\d+", text)
    return float(text) * step_s if step_s is not None and number else None


def _counter(paths: Sequence[Path]) -> Path | None:
    """Returns a picture whose digits behind the date may be a counter; None if all are times of day.

    They may be one if those of a day rise one by one from 0 or 1, and are one if any is no time of day.
    """
    days: dict[tuple[Path, str, str], dict[int, Path]] = {}
    for path in paths:
        if found := _BEHIND_A_DATE.match(path.stem):
            days.setdefault((path.parent, found[1], found[3] or ""), {})[int(found[2])] = path
    for numbers in days.values():
        ordered = sorted(numbers)
        risen = ordered == list(range(ordered[0], ordered[0] + len(ordered)))
        if len(ordered) > 1 and (
            (ordered[0] < 2 and risen) or any(_date(path.stem) is None for path in numbers.values())
        ):
            return numbers[ordered[0]]
    return None


def _date(text: str) -> tuple[float, str] | None:
    """Returns seconds since 1970 in the camera's own time, and the rest of the name."""
    for match in _DATED.finditer(text):
        try:
            *parts, fraction = match.groups()
            when = datetime(*(int(part or 0) for part in parts))  # type: ignore[arg-type]
        except ValueError:  # such as a thirteenth month
            continue
        rest = f"{text[: match.start()]}-{text[match.end() :]}"
        return calendar.timegm(when.timetuple()) + float(f"0.{fraction or 0}"), rest
    return None


def _camera(path: Path, rest: str) -> str:
    return (path.parent / rest.strip("-_. ")).as_posix()
