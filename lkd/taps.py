"""Taps: what named layers of any module saw and gave during one forward pass."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Call(NamedTuple):
    """What a module was called with: all of its positional and keyword arguments.

    Example:
        >>> given = Call((1,), {"scale": 2})
        >>> (lambda x, scale: x * scale)(*given.args, **given.kwargs)
        2
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def find_layer(model: nn.Module, address: str, argument: str) -> nn.Module:
    """Finds the submodule that a layer address names.

    Args:
        model: The model that is searched.
        address: `""` for the model itself, `"a.b"` for a named submodule; what follows a `:` is the key of
            an entry of its dict output and is ignored here.
        argument: The name of the user's argument, for the error message.

    Returns:
        The submodule.

    Raises:
        ValueError: If there is no such layer; near names are suggested.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        >>> find_layer(net, "1", "student_layer")
        ReLU()
    """
    name = address.partition(":")[0]
    modules = dict(model.named_modules())
    if name in modules:
        return modules[name]
    near = difflib.get_close_matches(name, modules, n=3, cutoff=0.5) or list(modules)[1:6]
    raise ValueError(
        f"{argument}={address!r} is not a layer of {type(model).__name__}; "
        f"did you mean one of {', '.join(repr(m) for m in near)}?"
    )


def find_part(model: nn.Module, address: str, argument: str) -> Callable[[Tensor], Any]:
    """Finds a part of a model that can be run by itself.

    Args:
        model: The model that is searched.
        address: `"a.b"` for a named submodule, or a method of one; `"a.b[2:]"` for what an `nn.Sequential` does
            from its third module on.
        argument: The name of the user's argument, for the error message.

    Returns:
        The submodule or method, or a new sequence of the very same submodules.

    Raises:
        ValueError: If there is no such part, nothing is left of the sequence, or it begins with an activation that works
            in place: that has overwritten what the part should be given.

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


class Taps:
    """Records the input and output of named layers while it is open.

    The hooks live only inside the `with` block, so nothing stays behind on the model: it can be copied,
    pickled and compiled outside. A layer that runs several times leaves its last call.

    Args:
        model: The module to listen to.
        addresses: Layer addresses as `find_layer` reads them.
        argument: The name of the user's argument, for error messages.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> with Taps(net, ["0", ""]) as taps:
        ...     _ = net(torch.ones(4, 2))
        >>> taps.output("0").shape, taps.input("").shape
        (torch.Size([4, 3]), torch.Size([4, 2]))
    """

    def __init__(self, model: nn.Module, addresses: Iterable[str], argument: str = "layer") -> None:
        self._model = model
        self._argument = argument
        self._layers = {a.partition(":")[0]: find_layer(model, a, argument) for a in addresses}
        self._calls: dict[str, tuple[Any, Any]] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "Taps":
        for name, layer in self._layers.items():
            self._handles.append(layer.register_forward_hook(self._recorder(name), with_kwargs=True))
        return self

    def __exit__(self, *exc: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _recorder(self, name: str) -> Any:
        def record(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            given = (*args, *kwargs.values())
            kinds: tuple[type, ...] = (Tensor, dict)
            found = (next((a for a in given if isinstance(a, kind)), None) for kind in kinds)
            self._calls[name] = (next((a for a in found if a is not None), None), output)

        return record

    def _call(self, address: str) -> tuple[Any, Any]:
        name = address.partition(":")[0]
        if name not in self._calls:
            where = f"layer {name!r}" if name else "the forward of the module itself"
            children = [n for n, _ in self._model.named_children()]
            raise ValueError(
                f"{self._argument}={address!r}: {where} did not run during the step; name a layer that does, "
                f"such as one of {children}."
            )
        return self._calls[name]

    def input(self, address: str) -> Any:
        """The first tensor that the layer was given, or else the first dict, which is the input of several modalities.

        Raises:
            ValueError: If the layer did not run, or was given neither.
        """
        given = self._call(address)[0]
        if given is None:
            raise ValueError(f"{self._argument}={address!r}: the layer was called without a tensor.")
        return given

    def output(self, address: str | list[str]) -> Any:
        """What the layer returned, or the list of it for a list of addresses.

        Raises:
            ValueError: If the layer did not run, or its output has no such entry.
        """
        if isinstance(address, list):
            return [self.output(a) for a in address]
        value = self._call(address)[1]
        key = address.partition(":")[2]
        if not key:
            return value
        if not isinstance(value, dict) or key not in value:
            has = sorted(value) if isinstance(value, dict) else type(value).__name__
            raise ValueError(f"{self._argument}={address!r}: the output has no entry {key!r}, it is {has}.")
        return value[key]
