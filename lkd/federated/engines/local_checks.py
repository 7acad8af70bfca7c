"""Checks of the values in a site's local YAML, each of which its owner wrote by hand."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.accelerators import AcceleratorRegistry


def _data(value: Any) -> str:
    described = isinstance(value, dict) and isinstance(value.get("class_path"), str)
    return (
        "" if described and isinstance(value.get("init_args"), dict | None) else "a class_path and init_args"
    )


def _folder(value: Any) -> str:
    if not isinstance(value, str) or not value:
        return "the path of a folder"
    path = Path(value).absolute()
    there = next(each for each in (path, *path.parents) if each.exists())
    return "" if there.is_dir() and os.access(there, os.W_OK | os.X_OK) else "a folder that can be written"


def _allow(value: Any) -> str:
    well = isinstance(value, list | tuple) and all(isinstance(one, str) and one for one in value)
    return "" if well else "a list of packages, modules or classes"


def _turn(value: Any) -> str:
    well = isinstance(value, list | tuple) and len(value) == 2 and all(map(_whole, value))
    return "" if well and 0 <= value[0] < value[1] else "[k, n], whole numbers with 0 <= k < n"


def _fractions(value: Any) -> str:
    well = isinstance(value, list | tuple) and len(value) == 3 and all(map(_share, value))
    right = well and value[0] > 0 and abs(sum(value) - 1) <= 1e-6
    return "" if right else "three shares [train, val, test] of sum 1, train above 0"


def _accelerator(value: Any) -> str:
    names = sorted(AcceleratorRegistry.available_accelerators())
    if not isinstance(value, str) or value not in [*names, "gpu", "auto"]:
        return f"one of {', '.join([*names, 'gpu'])} or auto"
    kinds = {"auto": ["cpu"], "gpu": ["cuda", "mps"]}.get(value, [value])
    there = any(AcceleratorRegistry[kind]["accelerator"].is_available() for kind in kinds)
    return "" if there else "cpu or auto, since this machine has none"


def _threads(value: Any) -> str:
    return "" if _whole(value) and value >= 1 else "a whole number, 1 or more"


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _share(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0


RIGHT: dict[str, Callable[[Any], str]] = {
    "data": _data,
    "folder": _folder,
    "allow": _allow,
    "turn": _turn,
    "fractions": _fractions,
    "accelerator": _accelerator,
    "threads": _threads,
}
"""For each key, what says what would be right; empty if it is."""


def check_local(path: Path, told: dict[Any, Any]) -> None:
    """Refuses keys and values that a local YAML cannot have.

    Args:
        path: The file, for messages.
        told: What it says.

    Raises:
        ValueError: For the first that is wrong; the message names file, key, value and what would be right.
    """
    if strange := [key for key in told if key not in RIGHT]:
        raise ValueError(f"{path} says {strange[0]!r:.80}, which is none of {', '.join(sorted(RIGHT))}.")
    for key, value in told.items():
        if right := RIGHT[key](value):
            raise ValueError(f"{path}: {key}={value!r:.80} must be {right}.")
