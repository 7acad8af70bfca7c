"""Bytes that describe numbers, settings and code, and change whenever these do."""

import dataclasses
import enum
import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn

from lkd.teachers.callables import global_names

_OTHERS = ("torch", "lightning", "pytorch_lightning", "builtins", "abc", "typing")


def values(tensor: Tensor) -> bytes:
    """Returns the bytes of a tensor's numbers."""
    return numbers(tensor).tobytes()


def numbers(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Returns a tensor's numbers as bytes, without a copy where they are on the CPU."""
    if type(tensor) not in (Tensor, nn.Parameter) and hasattr(tensor, "dequantize"):
        tensor = tensor.dequantize()  # of weights in 8 bits
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def plain(value: Any, depth: int = 8) -> bytes | None:
    """Describes a value and what it holds; None for an object.

    `torch.Size` is not described, since it most likely is the shape of the last input.

    Args:
        value: Any value.
        depth: Depth to which collections are followed; they may hold themselves.

    Example:
        >>> plain({"a": 1}) == plain({"a": 1}), plain({"a": 1}) == plain({"a": 2}), plain(object())
        (True, False, None)
    """
    if isinstance(value, Tensor):
        return values(value) if value.layout == torch.strided and not value.is_meta else None
    if isinstance(value, (bool, int, float, str, bytes, type(None), torch.dtype)):
        return repr(value).encode()
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
        return f"{value.dtype}{value.shape}".encode() + value.tobytes()
    if isinstance(value, enum.Enum):
        return str(value).encode()
    if depth == 0:
        return None
    if isinstance(value, types.FunctionType):
        held = [plain(entry, depth - 1) for entry in _closed_over(value)]
        return b"".join(_code(value.__code__)) + repr(held).encode()
    if isinstance(value, (set, frozenset)):
        return repr(sorted(str(plain(v, depth - 1)) for v in value)).encode()
    if isinstance(value, Mapping):
        said = {str(k): plain(v, depth - 1) for k, v in value.items()}
        return repr({k: v for k, v in sorted(said.items()) if v is not None}).encode()
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        return repr([plain(v, depth - 1) for v in value]).encode()
    if by_value(value):
        return plain(vars(value), depth - 1) if hasattr(value, "__dict__") else None
    return None


def by_value(value: Any) -> bool:
    """Returns whether an object is told by what it holds, as a dataclass is."""
    of_class = dataclasses.is_dataclass(value) and not isinstance(value, (type, nn.Module))
    return of_class or isinstance(value, types.SimpleNamespace)


def _closed_over(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue


def of_class(owner: type, seen: set[int]) -> Iterator[bytes]:
    """Yields a class's code and numbers, unless it is of a library that `torch.__version__` covers.

    Args:
        owner: The class.
        seen: Ids of the objects already described.
    """
    if owner.__module__.partition(".")[0] in _OTHERS or id(owner) in seen:
        return
    seen.add(id(owner))
    yield f"{owner.__module__}.{owner.__qualname__}".encode()
    for name, value in sorted(vars(owner).items()):
        value = getattr(value, "fget", None) or getattr(value, "__func__", value)
        if isinstance(value, types.FunctionType):
            yield from _function(value, seen)
        elif not name.startswith("__") and (said := plain(value)) is not None:
            yield name.encode() + said


def _function(function: types.FunctionType, seen: set[int]) -> Iterator[bytes]:
    """Yields a function's code, and the functions and numbers of its own file that it names."""
    if id(function) in seen:
        return
    seen.add(id(function))
    yield from _code(function.__code__)
    yield repr([plain(v) for v in function.__defaults__ or ()]).encode()
    yield plain(function.__kwdefaults__ or {}) or b""
    for held in _closed_over(function):  # such as the function inside a decorator
        if isinstance(held, types.FunctionType):
            yield from _function(held, seen)
        elif (said := plain(held)) is not None:
            yield said
    for name in global_names(function.__code__):
        value = function.__globals__.get(name)
        if isinstance(value, types.FunctionType):
            if value.__globals__ is function.__globals__:
                yield from _function(value, seen)
        elif isinstance(value, (bool, int, float, str)):
            yield f"{name}={value!r}".encode()


def _code(code: types.CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield " ".join(code.co_names).encode()
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code(constant)
        else:
            yield repr(sorted(constant, key=repr) if isinstance(constant, frozenset) else constant).encode()


def of_callable(value: Any, seen: set[int]) -> Iterator[bytes]:
    """Yields what a callable does and holds, except modules, which are described with the teacher."""
    if isinstance(value, functools.partial):
        for part in (value.func, *value.args, *value.keywords.items()):
            yield from of_callable(part, seen)
    elif isinstance(value, types.MethodType):
        yield value.__func__.__qualname__.encode()
        yield from of_callable(value.__self__, seen)
    elif isinstance(value, types.FunctionType):
        yield from _function(value, seen)
        for held in _closed_over(value):
            yield from of_callable(held, seen)
    elif isinstance(value, nn.Module):
        return
    elif (said := plain(value)) is not None:
        yield said
    else:
        yield from of_class(type(value), seen)
        yield plain(vars(value) if hasattr(value, "__dict__") else type(value).__qualname__) or b""
        if type(value).__module__ != "builtins":
            rank_zero_warn(
                f"cache: the teacher's callable holds a {type(value).__name__}, in which a change may go unseen; after one, "
                "give another folder as cache, or prune it."
            )
