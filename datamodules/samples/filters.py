"""Choosing frames or patches by weather and day."""

from collections.abc import Sequence
from datetime import date
from typing import Protocol, TypeVar

from lkd.datamodules.samples.splits import pick

WEATHERS = ("sunny", "overcast", "rainy")


class Dated(Protocol):
    """Anything with a weather and an ISO time."""

    @property
    def weather(self) -> str:
        """Weather, one of `WEATHERS`."""
        ...

    @property
    def time(self) -> str:
        """Time in ISO format, the date first."""
        ...


Item = TypeVar("Item", bound=Dated)


def select(items: list[Item], weathers: Sequence[str] | None, days: Sequence[str] | None) -> list[Item]:
    """Selects the items of the given weathers and days.

    Args:
        items: frames or patches.
        weathers: some of "sunny", "overcast", "rainy"; `None` for all.
        days: dates "2015-11-12" or ranges "2015-11-12..2015-12-31" (both ends included); `None` for all.

    Raises:
        ValueError: for an unknown weather, a malformed date, or if nothing is left.

    Example:
        >>> from pathlib import Path
        >>> from lkd.datamodules.detection.frames import CameraFrame
        >>> frames = [CameraFrame(Path("a.jpg"), "C1", "2015-11-12T07:09", "sunny")]
        >>> len(select(frames, ["sunny"], ["2015-11-01..2015-11-30"]))
        1
    """
    pick("weathers", weathers, WEATHERS)
    ranges = []
    for text in days or ():
        try:
            first, _, last = text.partition("..")
            ranges.append((date.fromisoformat(first), date.fromisoformat(last or first)))
        except ValueError as error:
            raise ValueError(
                f"days: {text!r} is neither a date like 2015-11-12 nor a range a..b of two."
            ) from error
    chosen = [
        item
        for item in items
        if (weathers is None or item.weather in weathers)
        and (days is None or any(low <= date.fromisoformat(item.time[:10]) <= high for low, high in ranges))
    ]
    if items and not chosen:
        raise ValueError(f"weathers={weathers} and days={days} leave nothing of {len(items)} items.")
    return chosen
