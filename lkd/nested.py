"""Tensors inside of dicts, tuples, lists and dataclasses, found and changed at any depth."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

_LEAVES = (str, int, float, bytes, type(None))
"""The commonest kinds of leaves beside tensors, which are told by their type at once."""


def children(value: Any) -> dict[Any, Any] | None:
    """Returns the entries of a dict, tuple, list or dataclass by key, place or name, or else None.

    Example:
        >>> children(("a", "b")), children(3)
        ({0: 'a', 1: 'b'}, None)
    """
    if isinstance(value, Tensor):  # the most common case, and the next checks take longer
        return None
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    return None


def rebuild(value: Any, entries: dict[Any, Any]) -> Any:
    """Makes a collection of the type of `value` with other entries under the same keys.

    Example:
        >>> from collections import namedtuple
        >>> rebuild(namedtuple("Output", "logits state")(1, 2), {0: 3, 1: 4})
        Output(logits=3, state=4)
    """
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(entries.values())
    if isinstance(value, (list, tuple)):
        return type(value)(entries.values())
    result = copy.copy(value)
    for key, entry in entries.items():
        if isinstance(value, Mapping):
            result[key] = entry
        else:
            object.__setattr__(result, key, entry)  # works for a frozen dataclass too
    return result


def apply(function: Callable[[Any], Any], value: Any) -> Any:
    """Applies the function to all leaves of `value`, that is to whatever is no collection.

    Example:
        >>> apply(lambda leaf: 2 * leaf, {"a": (1, [2])})
        {'a': (2, [4])}
    """
    entries = children(value)
    if entries is None:
        return function(value)
    return rebuild(value, {key: apply(function, entry) for key, entry in entries.items()})


def on_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Applies the function to the tensors in `value`; all else stays.

    Example:
        >>> import torch
        >>> on_tensors(len, {"images": torch.zeros(2, 3), "names": ["a"]})
        {'images': 2, 'names': ['a']}
    """
    return apply(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, value)


def leaves(value: Any) -> Iterator[Any]:
    """Yields the leaves of `value`, that is whatever is no collection, in order.

    Example:
        >>> list(leaves({"a": (1, [2]), "b": None}))
        [1, 2, None]
    """
    entries = children(value)
    if entries is None:
        yield value
    else:
        for entry in entries.values():
            yield from leaves(entry)


def tensors(value: Any) -> list[Tensor]:
    """Returns the tensors in `value`, in order.

    Example:
        >>> import torch
        >>> tensors({"a": 1, "b": torch.tensor([2.0])})
        [tensor([2.])]
    """
    found: list[Tensor] = []
    _gather(value, found)
    return found


def _gather(value: Any, found: list[Tensor]) -> None:
    """Appends the tensors in `value`: what every step does many times, without a dict for each collection."""
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            _gather(entry, found)
    elif type(value) is dict:
        for entry in value.values():
            _gather(entry, found)
    elif not isinstance(value, _LEAVES) and (entries := children(value)) is not None:
        for entry in entries.values():
            _gather(entry, found)


def shallow(value: Any) -> Any:
    """Copies the collections in `value`, but not their leaves.

    A collection that cannot be copied stays itself.

    Example:
        >>> inner = [1]
        >>> copy = shallow({"a": inner})
        >>> inner.append(2)
        >>> copy
        {'a': [1]}
    """
    kind = type(value)
    if kind is tuple:
        return tuple([shallow(entry) for entry in value])
    if kind is list:
        return [shallow(entry) for entry in value]
    if kind is dict:
        return {key: shallow(entry) for key, entry in value.items()}
    entries = children(value)
    if entries is None:
        return value
    try:
        return rebuild(value, {key: shallow(entry) for key, entry in entries.items()})
    except (TypeError, ValueError, AttributeError):  # a type with a constructor of its own
        return value
