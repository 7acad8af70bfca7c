"""Addresses of layers: a submodule, an entry of its output, and where its channels are."""

import difflib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

LAYOUTS = ("NHWC", "NCHW", "NLC", "NCL", "LNC")


class Address(NamedTuple):
    """The parts of an address such as `"body.3:features:0@NHWC"`."""

    module: str
    keys: tuple[str, ...]
    layout: str


def parse(address: str, argument: str = "layer") -> Address:
    """Splits an address into its parts.

    Args:
        address: `"a.b"` for a submodule, `""` for the model itself. After a `:` comes the key, attribute or
            index of an entry of its output, several in a row for entries of entries, `*` for all entries of a
            list. After an `@` comes the order of its dimensions, where lkd cannot find it: `NHWC` or `NCHW`
            for maps, `NLC`, `NCL` or `LNC` (samples second) for sequences.
        argument: The name of the user's argument, for the error message.

    Raises:
        ValueError: For an unknown layout.

    Example:
        >>> parse("body.3:features:0@NHWC")
        Address(module='body.3', keys=('features', '0'), layout='NHWC')
    """
    parts = _parts(address)
    if parts.layout not in LAYOUTS and "@" in address:
        raise ValueError(f"{argument}={address!r}: after the @ stands one of {', '.join(LAYOUTS)}.")
    return parts


@functools.lru_cache(1024)  # every step reads the same few again and again
def _parts(address: str) -> Address:
    path, _, layout = address.partition("@")
    name, *keys = path.split(":")
    return Address(name, tuple(keys), layout)


def find_layer(model: nn.Module, address: str, argument: str) -> nn.Module:
    """Finds the submodule that a layer address names.

    Args:
        model: The model that is searched.
        address: As `parse` reads it; entries of its output and the layout are ignored here.
        argument: The name of the user's argument, for the error message.

    Returns:
        The submodule.

    Raises:
        ValueError: If there is no such layer (similar names are suggested), or it lies inside a compiled
            module.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        >>> find_layer(net, "1", "student_layer")
        ReLU()
    """
    name = parse(address, argument).module
    layer = model
    for part, inner in _path(model, name):
        if inner is None:
            modules = [n for n, _ in model.named_modules()]
            near = difflib.get_close_matches(name, modules, n=3, cutoff=0.5) or modules[1:6]
            raise ValueError(
                f"{argument}={address!r} is not a layer of {type(model).__name__}; "
                f"did you mean one of {', '.join(repr(m) for m in near)}?"
            )
        if part == "_orig_mod" or inner._compiled_call_impl is not None:
            raise ValueError(
                f"{argument}={address!r} lies inside of what torch.compile has made of {type(model).__name__}'s layers, where "
                "nothing can be tapped; compile it in parts that the address does not enter, or not at all."
            )
        layer = inner
    return layer


def _path(model: nn.Module, name: str) -> Iterator[tuple[str, nn.Module | None]]:
    """Yields the modules on the way to a name, the model first; None where the way ends too early."""
    yield "", model
    layer: nn.Module | None = model
    for part in name.split(".") if name else ():
        inner = layer._modules if layer is not None else {}  # a scripted module's are no dict
        layer = inner[part] if part in inner else None
        yield part, layer


def find_part(model: nn.Module, address: str, argument: str) -> Callable[[Tensor], Any]:
    """Finds a part of a model that can be run by itself.

    Args:
        model: The model that is searched.
        address: `"a.b"` for a named submodule, or a method of one; `"a.b[2:]"` for an `nn.Sequential` from
            its third module on.
        argument: The name of the user's argument, for the error message.

    Returns:
        The submodule or method, or a new sequence of the same submodules.

    Raises:
        ValueError: If there is no such part, if nothing is left of the sequence, or if it begins with an
            activation that works in place and has overwritten the part's input.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
        >>> find_part(net, "[1:]", "rest")
        Sequential(
          (0): ReLU()
          (1): Linear(in_features=2, out_features=1, bias=True)
        )
    """
    part = _cut(model, address, argument) if address.endswith(":]") else _named(model, address, argument)
    first: Any = part
    while isinstance(first, nn.Sequential):
        first = first[0]
    if getattr(first, "inplace", False):
        raise ValueError(
            f"{argument}={address!r} begins with a {type(first).__name__} that works in place and so overwrites the "
            "output before it; set its inplace=False, or go on after it."
        )
    return part


def _named(model: nn.Module, address: str, argument: str) -> Callable[[Tensor], Any]:
    owner, _, name = address.rpartition(".")
    method = getattr(dict(model.named_modules()).get(owner), name, None) if name else None
    return method if callable(method) else find_layer(model, address, argument)


def _cut(model: nn.Module, address: str, argument: str) -> nn.Sequential:
    name, _, start = address.removesuffix(":]").rpartition("[")
    whole = find_layer(model, name, argument)
    if not isinstance(whole, nn.Sequential) or not start.isdecimal():
        raise ValueError(
            f"{argument}={address!r}: only an nn.Sequential can be cut, as in 'head[2:]', and {name!r} is a "
            f"{type(whole).__name__}; name a submodule or a method that goes on from there."
        )
    modules = list(whole)[int(start) :]
    if not modules:
        raise ValueError(f"{argument}={address!r}: nothing is left, the sequence has {len(whole)} modules.")
    return nn.Sequential(*modules)


def entry_of(value: Any, address: str, argument: str) -> Any:
    """Returns the entry of a layer's output that an address names, or the whole output if it names none.

    Args:
        value: Output of the layer: a tensor, or a mapping, tuple, list or object with attributes, nested to
            any depth.
        address: As `parse` reads it.
        argument: The name of the user's argument, for the error message.

    Raises:
        ValueError: If there is no such entry; the message lists the entries.

    Example:
        >>> entry_of(("logits", {"features": 3}), ":1:features", "student_layer")
        3
    """
    for key in parse(address, argument).keys if ":" in address or "@" in address else ():
        try:
            value = _entry(value, key)
        except (KeyError, IndexError, AttributeError):
            raise ValueError(
                f"{argument}={address!r}: the output has no entry {key!r}, it is {described(value)}."
            ) from None
    return value


def _entry(value: Any, key: str) -> Any:
    if isinstance(value, tuple | list) and key == "*":
        return list(value)
    if isinstance(value, tuple | list) and key.lstrip("-").isdecimal():
        return value[int(key)]
    if isinstance(value, Mapping):
        return value[int(key)] if key not in value and key.isdecimal() else value[key]
    if isinstance(value, Tensor) or (isinstance(value, tuple | list) and not hasattr(value, "_fields")):
        raise KeyError(key)
    return getattr(value, key)  # of a named tuple, a dataclass, or an object of any other class


def described(value: Any) -> str:
    """Describes a layer's output in a few words.

    Example:
        >>> import torch
        >>> described((torch.zeros(2, 3), [1]))
        'a tuple of a tensor (2, 3), a list of an int'
    """
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    kind = type(value).__name__
    if isinstance(value, Mapping):
        return f"a {kind} with {sorted(map(str, value))}"
    if isinstance(value, tuple | list) and value:
        return f"a {kind} of {', '.join(described(v) for v in value[:4])}{', ...' if len(value) > 4 else ''}"
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"
