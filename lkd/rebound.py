"""Functions and weak references in a copy, where `copy.deepcopy` leaves those of the original."""

import types
import weakref
from typing import Any


def rebound(value: Any, memo: dict[int, Any]) -> Any:
    """Returns a function or weak reference over copies of what it refers to, or itself without copies.

    Args:
        value: Anything; other values stay as they are.
        memo: Copies, by the ids of their originals.

    Example:
        >>> net, twin = [1], [2]
        >>> rebound(lambda x=net: x, {id(net): twin})()
        [2]
    """
    if isinstance(value, weakref.ProxyTypes):
        target = value.__init__.__self__
        return weakref.proxy(memo[id(target)]) if id(target) in memo else value
    if isinstance(value, weakref.ref):
        target = value()
        new = _inside(target, memo)
        return value if new is target else type(value)(new)
    return _function(value, memo) if isinstance(value, types.FunctionType) else value


def _inside(value: Any, memo: dict[int, Any]) -> Any:
    """Returns the same for what a function closes over."""
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, types.MethodType):
        owner = _inside(value.__self__, memo)
        return value if owner is value.__self__ else types.MethodType(value.__func__, owner)
    return _function(value, memo) if isinstance(value, types.FunctionType) else value


def _function(value: types.FunctionType, memo: dict[int, Any]) -> types.FunctionType:
    memo = memo | {id(value): value}  # a function may close over itself
    cells, defaults, named = value.__closure__ or (), value.__defaults__ or (), value.__kwdefaults__ or {}
    before = [*(_content(cell) for cell in cells), *defaults, *named.values()]
    after = [_inside(one, memo) for one in before]
    if all(a is b for a, b in zip(before, after, strict=True)):
        return value
    closure = tuple(
        cell if a is b else types.CellType(b) for cell, a, b in zip(cells, before, after, strict=False)
    )
    rest = after[len(cells) :]
    made = types.FunctionType(
        value.__code__, value.__globals__, value.__name__, tuple(rest[: len(defaults)]) or None, closure
    )
    made.__kwdefaults__ = dict(zip(named, rest[len(defaults) :], strict=True)) or None
    made.__qualname__, made.__doc__ = value.__qualname__, value.__doc__
    made.__dict__.update(value.__dict__)
    return made


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the cell is not filled yet
        return None
