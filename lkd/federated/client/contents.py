"""What the attributes of a module hold, however deep: collections, arrays, tensors and helper objects."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor, nn

from lkd.kept import version
from lkd.plain_objects import is_plain
from lkd.unchanged import HELD, MOST

PLAIN = (bool, int, float, str, bytes)
"""Values that are compared by what they are, and hold nothing."""
SMALL = 2**20
"""Bytes up to which an array is compared."""
Contents = dict[str, Any]
"""The entries of each collection and object, and the state of each tensor and array, by path."""


def contents_of(value: Any, path: str, seen: set[int] | None = None) -> Contents:
    """Notes what a value holds, without what `seen` has already.

    Args:
        value: Attribute of a module.
        path: Its name.
        seen: Ids of all that was looked into; beyond `MOST` nothing more is.

    Example:
        >>> held = {"losses": [1.0]}
        >>> before = contents_of(held, "figures")
        >>> held["losses"].append(2.0)
        >>> differing(before, contents_of(held, "figures"))
        ['figures.losses']
    """
    return dict(_walk(value, path, set() if seen is None else seen))


def differing(before: Contents, now: Contents) -> list[str]:
    """Returns the paths of what has changed; what is at one of the times only counts by what holds it."""
    return [path for path in before if path in now and not _alike(before[path], now[path])]


def _walk(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, nn.Parameter):
        return  # it trains, and so changes
    if isinstance(value, Tensor):
        yield path, (value, version(value))
    elif isinstance(value, np.ndarray):
        yield path, (value, value.tobytes() if value.nbytes < SMALL else None)
    elif id(value) not in seen and (type(value) in HELD or type(value) is tuple or is_plain(value)):
        seen.add(id(value))
        inside = vars(value) if is_plain(value) else value
        yield path, list(inside.items()) if isinstance(inside, dict) else list(inside)
        if len(inside) <= MOST and len(seen) <= MOST:
            entries = inside.items() if isinstance(inside, dict) else enumerate(inside)
            for key, entry in entries if not isinstance(inside, set) else ():
                if not isinstance(entry, PLAIN):
                    yield from _walk(entry, f"{path}.{key}", seen)


def _alike(one: Any, other: Any) -> bool:
    """Tells whether two notes are of the same objects in the same state; entries of a dict are pairs."""
    return type(one) is type(other) and len(one) == len(other) and all(map(equal, one, other))


def equal(one: Any, other: Any) -> bool:
    """Tells whether two values are the same object, or equal numbers, texts or tuples of these."""
    if type(one) is tuple and type(other) is tuple and len(one) == len(other):
        return one is other or all(map(equal, one, other))
    return one is other or (type(one) is type(other) and isinstance(one, PLAIN) and one == other)
