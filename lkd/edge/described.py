"""Configurations as plain data: a description of an object, and the difference between two."""

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any


def described(value: Any, depth: int = 5) -> Any:
    """Returns an object as plain data: its class and those of its public attributes that are plain, too.

    Example:
        >>> described({"path": Path("a"), "values": (1, None)})
        {'path': 'a', 'values': [1, None]}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): described(each, depth) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [described(each, depth) for each in value]
    if isinstance(value, partial):
        return {"function": described(value.func), "with": described(value.keywords)}
    if isinstance(value, type) or not hasattr(value, "__dict__"):
        return getattr(value, "__qualname__", type(value).__qualname__)
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    public = {k: v for k, v in vars(value).items() if not k.startswith("_")} if depth else {}
    return {"class": name, **{key: described(each, depth - 1) for key, each in public.items()}}


def difference(there: Any, here: Any, where: str = "") -> str:
    """Returns the first entry that differs between two configurations, in words.

    Args:
        there: Plain data.
        here: Plain data.
        where: Name of the entry that they belong to.

    Example:
        >>> difference({"a": {"b": 1}}, {"a": {"b": 2}})
        'a.b: 1 there, 2 here'
    """
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*there, *here]:
            if there.get(key) != here.get(key):
                return difference(there.get(key), here.get(key), f"{where}.{key}" if where else key)
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for number, pair in enumerate(zip(there, here, strict=True)):
            if pair[0] != pair[1]:
                return difference(*pair, f"{where}[{number}]")
    return f"{where}: {_brief(there)} there, {_brief(here)} here"


def _brief(value: Any) -> str:
    said = json.dumps(value)
    return said if len(said) < 60 else said[:57] + "..."


def write_json(path: Path, content: Any) -> None:
    """Writes plain data as JSON, completely or not at all.

    Args:
        path: Where to write it.
        content: Plain data.
    """
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(draft, path)
