"""Taps: what named layers of any module saw and gave during one forward pass."""

import difflib
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


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
            self._calls[name] = (next((a for a in given if isinstance(a, Tensor)), None), output)

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

    def input(self, address: str) -> Tensor:
        """The first tensor that the layer was given.

        Raises:
            ValueError: If the layer did not run, or was given no tensor.
        """
        tensor = self._call(address)[0]
        if tensor is None:
            raise ValueError(f"{self._argument}={address!r}: the layer was called without a tensor.")
        return tensor

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
