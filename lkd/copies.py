"""Copies of modules with weights of their own, made in one way everywhere."""

import collections.abc
import copy
import io
import types
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn

from lkd.rebound import rebound

M = TypeVar("M", bound=nn.Module)


class Held(NamedTuple):
    """An entry of a module, in `owner` (a module, or a dict, list or tuple of one) under `key`."""

    owner: Any
    key: Any
    value: Any
    path: str


def copied(module: M, argument: str) -> M:
    """Copies a module also where `copy.deepcopy` fails, or would leave the copy with parts of the original.

    Functions that close over what is copied, and weak references to it, become those of the copy. What cannot
    be copied and holds no tensor is a resource, such as a lock or an open file, that both share.

    Args:
        module: The module.
        argument: The user's argument that it was given as, for the error message.

    Raises:
        ValueError: If it holds something that can be neither copied nor shared; the message names it.

    Example:
        >>> import threading
        >>> net = nn.Linear(2, 2)
        >>> net.lock = threading.Lock()
        >>> twin = copied(net, "client")
        >>> twin.lock is net.lock, twin.weight is net.weight
        (True, False)
    """
    who = f"{argument}: {type(module).__name__}"
    everything = list(held_by(module))
    proxies = {id(h.value): h.value for h in everything if isinstance(h.value, weakref.ProxyTypes)}
    memo: dict[int, Any] = dict(proxies)
    try:
        twin = copy.deepcopy(module, memo)
    except Exception:
        memo = proxies | _in_place(module, everything, who)
        try:
            twin = copy.deepcopy(module, memo)
        except Exception as error:
            raise ValueError(f"{who} cannot be copied: {type(error).__name__}: {error}") from error
    for held in everything:
        new = rebound(held.value, memo)
        if new is held.value:
            continue
        if hasattr(held.value, "_torchdynamo_orig_callable"):
            raise ValueError(
                f"{who}.{held.path} is torch.compile of a method, which would run with the weights of the original in every "
                "copy: compile a submodule instead, self.net = torch.compile(self.net)."
            )
        if isinstance(held.owner, tuple):
            raise ValueError(
                f"{who}.{held.path}, in a tuple, is of the module itself and cannot be copied with it: keep it in a list."
            )
        owner = memo[id(held.owner)]
        (vars(owner) if isinstance(owner, nn.Module) else owner)[held.key] = new
    return twin


def held_by(module: nn.Module) -> Iterator[Held]:
    """Yields all that a module, its submodules and their dicts, lists and tuples hold, without containers.

    Args:
        module: The module.
    """
    seen: set[int] = set()
    stack: list[tuple[Any, str]] = [(module, "")]
    while stack:
        owner, path = stack.pop()
        if id(owner) in seen or hasattr(owner, "__deepcopy__"):
            continue
        seen.add(id(owner))
        for key, value in _items(owner):
            inner = key in ("_modules", "_parameters", "_buffers")
            below = path if inner else f"{path}.{key}".lstrip(".")
            proxy = isinstance(value, weakref.ProxyTypes)  # a proxy claims the type of its target
            if isinstance(value, nn.Module | dict | list | tuple) and not proxy:
                stack.append((value, below))
            elif value is not None:
                yield Held(owner, key, value, below)


def _items(owner: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(owner, nn.Module):
        owner = owner.__getstate__()  # the state that a copy is made from
    if isinstance(owner, Mapping):
        return iter(list(owner.items()))
    return enumerate(owner) if isinstance(owner, list | tuple) else iter(())


def _in_place(module: nn.Module, everything: list[Held], who: str) -> dict[int, Any]:
    """Returns replacements for things that cannot be copied, by their ids."""
    found: dict[int, Any] = {}
    inside = {id(part): part for part in module.modules()}
    for held in everything:
        try:
            copy.deepcopy(held.value, dict(inside))
        except Exception as error:
            found[id(held.value)] = _replacement(held, who, error)
    return found


def _replacement(held: Held, who: str, error: Exception) -> Any:
    value, kind = held.value, type(held.value).__name__
    if isinstance(value, Tensor):
        hooks = getattr(held.owner, "_forward_pre_hooks", {}).values()
        # pruning and weight normalization make their tensors anew in every forward
        if any(held.key in (getattr(h, "name", None), getattr(h, "_tensor_name", None)) for h in hooks):
            return value.detach().clone()
        kind, advice = (
            "Tensor computed from others",
            "detach it, make it a buffer, or compute it in forward",
        )
    elif isinstance(value, collections.abc.Iterator) and not isinstance(value, io.IOBase):
        advice = "begin it where it is read, such as in on_train_start"
    elif not _holds_tensor(value, set()):
        return value
    else:
        advice = "give its class a __deepcopy__, or keep its tensors in a module"
    raise ValueError(
        f"{who}.{held.path} is a {kind}, which cannot be copied, and a copy of the module is needed: {advice}."
    ) from error


def _holds_tensor(value: Any, seen: set[int]) -> bool:
    if isinstance(value, Tensor | nn.Module):
        return True
    if id(value) in seen or isinstance(value, type | types.ModuleType):
        return False
    seen.add(id(value))
    inside = value.values() if isinstance(value, Mapping) else getattr(value, "__dict__", {}).values()
    if isinstance(value, list | tuple | set):
        inside = value
    return any(_holds_tensor(one, seen) for one in list(inside))
