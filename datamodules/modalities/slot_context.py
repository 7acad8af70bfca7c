"""What is known of a parking slot without a picture: the weather, the hour, the weekday, the camera."""

import math
from collections.abc import Sequence
from datetime import datetime

from lkd.datamodules.samples.filters import WEATHERS
from lkd.datamodules.samples.splits import pick
from lkd.slot_labels import Patch

CAMERAS = tuple(f"C{number}" for number in range(1, 10))
FIELDS = {"weather": len(WEATHERS), "hour": 2, "weekday": 2, "camera": len(CAMERAS)}  # and their sizes


def context_size(fields: Sequence[str]) -> int:
    """Returns the length of `context_of` with these fields.

    Example:
        >>> context_size(["hour", "weekday"])
        4
    """
    return sum(FIELDS[name] for name in fields)


def check_fields(fields: Sequence[str] | None) -> list[str]:
    """Returns the fields in their fixed order, or all of them for `None`.

    Raises:
        ValueError: for an unknown field, or none at all.
    """
    chosen = pick("context", fields, FIELDS)
    return [name for name in FIELDS if name in chosen]


def context_of(patch: Patch, fields: Sequence[str]) -> list[float]:
    """Returns a patch's context as numbers, the same for all slots of a frame.

    The weather is one of three (sunny, overcast, rainy), one-hot; so is the camera, one of C1 to C9 (another
    one is all zeros). Hour and weekday are points on a circle, sine and cosine, so that midnight is near
    eleven at night. No number is computed from data, so nothing of a validation or test set is in it.

    Args:
        patch: the patch.
        fields: some of `FIELDS`, in that order.

    Example:
        >>> patch = Patch("...", "C2", "2015-11-12T06:00", "sunny", 7, 1)  # a Thursday
        >>> [round(number, 2) for number in context_of(patch, ["weather", "hour"])]
        [1.0, 0.0, 0.0, 1.0, 0.0]
    """
    at, found = datetime.fromisoformat(patch.time), []
    for name in fields:
        if name == "weather":
            found += [float(patch.weather == one) for one in WEATHERS]
        elif name == "camera":
            found += [float(patch.camera == one) for one in CAMERAS]
        else:
            turn = (at.hour + at.minute / 60) / 24 if name == "hour" else at.weekday() / 7
            found += [math.sin(2 * math.pi * turn), math.cos(2 * math.pi * turn)]
    return found
