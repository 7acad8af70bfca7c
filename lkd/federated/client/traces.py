"""Traces of a client in the module and in torch's global settings, which the next must not find."""

import contextlib
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import nn

from lkd.federated.client.contents import Contents, contents_of, differing, equal
from lkd.federated.client.fresh_metrics import is_metric, reset_attributes
from lkd.federated.client.parts import named_parts, parameters_of
from lkd.federated.protocol.tensors import Tensors
from lkd.unchanged import OWN

NUMBERS = {bool: torch.bool, int: torch.int64, float: torch.float64}
"""Plain attributes that every client keeps for itself, and the types of their tensors in a checkpoint."""
HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
"""Names of a parameter's hooks."""
INNER = tuple(key for key, held in vars(nn.Module()).items() if isinstance(held, dict))
"""Attributes of every module that hold its parameters, buffers, children and hooks."""


class Traces:
    """Snapshot of a module before a client works on it: layers, parameters, hooks, flags and attributes.

    It holds references only, not the values of tensors, which the next client brings anyway. So a snapshot
    costs little, and what is attached to the module stays attached. Figures of torchmetrics are left alone:
    they are reset for the next client (`FreshMetrics`).

    Args:
        module: The module that trains.
    """

    def __init__(self, module: nn.Module) -> None:
        named = named_parts(module)
        self._parts = [(prefix, part, _attributes_but_figures(part)) for prefix, part in named]
        self._inside: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._empty: list[dict[Any, Any]] = []  # most are, and stay so
        for _, _, own in self._parts:
            for held in map(own.get, INNER):
                if held:
                    self._inside.append((held, dict(held)))
                elif held is not None:
                    self._empty.append(held)
        self._parameters = [
            (p, p.requires_grad, p.dtype, p.device, p.shape, [_copy(getattr(p, h, None)) for h in HOOKS])
            for p in parameters_of(named)
        ]

    def put_back(self) -> None:
        """Restores the module, except for the values of its tensors."""
        for held, before in self._inside:
            held.clear()
            held.update(before)
        for held in filter(None, self._empty):
            held.clear()
        for _, part, before in self._parts:
            now = vars(part)
            now.update(before)
            if len(now) > len(before):
                for key in (now.keys() - before.keys()).difference(reset_attributes(part)):
                    del now[key]
        for p, trains, dtype, device, shape, hooks in self._parameters:
            if (p.dtype, p.device, p.shape) != (dtype, device, shape):
                p.data = torch.empty(shape, dtype=dtype, device=device)
            if p.requires_grad != trains:
                p.requires_grad_(trains)
            for name, before in zip(HOOKS, hooks, strict=True):
                if _copy(getattr(p, name, None)) != before:
                    setattr(p, name, before)

    def numbers(self) -> Tensors:
        """Returns the plain numbers among the attributes that are new or have changed, by name."""
        found: Tensors = {}
        for prefix, part, before in self._parts:
            for key, value in _changed(part, before):
                if type(value) in NUMBERS and (
                    type(before.get(key)) is not type(value) or before[key] != value
                ):
                    with contextlib.suppress(
                        OverflowError
                    ):  # a number beyond 64 bits is not kept; it begins anew, as other attributes do
                        found[f"{prefix}.{key}"] = torch.tensor(value, dtype=NUMBERS[type(value)])
        return found

    def set_numbers(self, numbers: Tensors) -> None:
        """Sets the numbers that a client has kept."""
        parts = {prefix: part for prefix, part, _ in self._parts}
        for name, value in numbers.items():
            prefix, _, key = name.rpartition(".")
            if prefix in parts:
                vars(parts[prefix])[key] = value.item()

    def others(self, contents: Contents) -> list[str]:
        """Returns the names of changed attributes that had a value before and are no numbers.

        Args:
            contents: What the attributes held before, as `contents` gave it.
        """
        inside = differing(contents, self.contents())
        for prefix, part, before in self._parts:
            inside += [
                f"{prefix}.{key}"
                for key, value in _changed(part, before)
                if key in before and type(value) not in NUMBERS and key[0] != "_"
            ]
        return list(dict.fromkeys(inside))

    def changed(self, contents: Contents, but: Sequence[str] = ()) -> list[str]:
        """Returns the names of all attributes that are new or have changed, private ones and numbers, too.

        Args:
            contents: What the attributes held before, as `contents` gave it.
            but: Names that do not count.
        """
        found = differing(contents, self.contents())
        for prefix, part, before in self._parts:
            found += [f"{prefix}.{key}" for key, _ in _changed(part, before) if key not in but]
        return list(dict.fromkeys(found))

    def contents(self) -> Contents:
        """Returns what the attributes hold: collections, tensors, arrays and objects, however deep."""
        found: Contents = {}
        seen: set[int] = set()
        for prefix, part, _ in self._parts:
            for key, value in _attributes(part):
                found |= contents_of(value, f"{prefix}.{key}", seen)
        return found


@contextlib.contextmanager
def switches() -> Iterator[None]:
    """Restores torch's global settings afterwards: gradients, default type and autocast."""
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    kinds = ("cpu", "cuda") if torch.cuda.is_initialized() else ("cpu",)
    casts = [(k, torch.is_autocast_enabled(k), torch.get_autocast_dtype(k)) for k in kinds]
    try:
        yield
    finally:
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        for kind, enabled, to in casts:
            torch.set_autocast_enabled(kind, enabled)
            torch.set_autocast_dtype(kind, to)


def warn_of(module: nn.Module, names: list[str]) -> None:
    """Warns of changed attributes that no client keeps, without private ones.

    Args:
        module: The module that has the attributes.
        names: Names of the attributes.
    """
    names = [name for name in names if "._" not in name]
    if names:
        few = ", ".join(name.lstrip(".") for name in names[:3]) + (", ..." if len(names) > 3 else "")
        rank_zero_warn(
            f"{type(module).__name__} changes {few} in training. Of a client's attributes only numbers are kept for its next round; another "
            "value is put back after every client, and what changes inside a list, dict, set, tensor, array or another object is there for "
            "the next client, too. What is "
            "learned belongs into a buffer: register_buffer (in personal_layers=[...], if every client shall have its own)."
        )


def _attributes(part: nn.Module) -> list[tuple[str, Any]]:
    return [] if is_metric(part) else [(k, v) for k, v in vars(part).items() if k not in OWN]


def _changed(part: nn.Module, before: dict[str, Any]) -> list[tuple[str, Any]]:
    """Lists the attributes that are new, or another object than before."""
    now = vars(part)
    if len(now) == len(before) and all(map(operator.is_, now.values(), before.values())):
        return []  # as at most parts
    if is_metric(part):
        return []
    return [(k, v) for k, v in now.items() if (k not in before or not equal(before[k], v)) and k not in OWN]


def _attributes_but_figures(part: nn.Module) -> dict[str, Any]:
    found = dict(vars(part))
    for key in reset_attributes(part):
        found.pop(key, None)
    return found


def _copy(hooks: Any) -> Any:
    return None if hooks is None else type(hooks)(hooks)
