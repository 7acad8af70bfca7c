"""Objects of users' own classes, whose attributes are looked into."""

import types
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

LIBRARIES = frozenset(
    "builtins callbacks collections concurrent contextlib copy ctypes datamodules dataclasses datetime enum functools io itertools "
    "lightning lightning_fabric lightning_utilities lkd logging multiprocessing numpy os pathlib PIL pytorch_lightning queue random re "
    "scipy sklearn socket subprocess tempfile threading timm torch torchmetrics torchvision typing ultralytics wandb weakref".split()
)
"""Packages whose objects are left alone: they are large, or resources."""
MOST = 1000
"""Objects that a walk looks into, and entries up to which it looks into a collection; a longer one is data."""


def is_plain(value: Any) -> bool:
    """Returns whether a value is an object with attributes of its own, such as a helper that a module holds.

    Example:
        >>> is_plain(types.SimpleNamespace(steps=0)), is_plain(nn.Linear(1, 1)), is_plain([3])
        (True, False, False)
    """
    return (
        hasattr(value, "__dict__")
        and not isinstance(value, nn.Module | Tensor | type | types.ModuleType | types.FunctionType)
        and type(value).__module__.partition(".")[0] not in LIBRARIES
    )


def objects_in(value: Any, path: str, met: set[int], depth: int = 8) -> Iterator[tuple[str, Any]]:
    """Yields the objects that a value is or holds, in collections and objects too, each once, with its path.

    Args:
        value: Any value.
        path: Its name.
        met: Ids of the objects already met, to which it adds.
        depth: Depth to which collections and objects are followed.

    Example:
        >>> inner = types.SimpleNamespace(scale=1.0)
        >>> [path for path, _ in objects_in([types.SimpleNamespace(inner=inner), inner], "held", set())]
        ['held.0', 'held.0.inner']
    """
    plain, collection = is_plain(value), isinstance(value, dict | list | tuple)
    if not (plain or collection) or not depth or id(value) in met or len(met) >= MOST:
        return
    if plain:
        met.add(id(value))
        yield path, value
    inside = value if collection else vars(value)
    if len(inside) <= MOST:
        for key, entry in inside.items() if isinstance(inside, dict) else enumerate(inside):
            yield from objects_in(entry, f"{path}.{key}", met, depth - 1)
