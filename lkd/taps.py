"""Taps: what named layers of any module were given, and gave, during one forward pass."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torchmetrics import Metric

from lkd.addresses import entry_of, find_layer, parse


class Call(NamedTuple):
    """What a module was called with: all of its positional and keyword arguments.

    Example:
        >>> given = Call((1,), {"scale": 2})
        >>> (lambda x, scale: x * scale)(*given.args, **given.kwargs)
        2
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Reached(Exception):  # noqa: N818  (no error: it ends a forward that has shown what was wanted)
    """All tapped layers have run."""


class Taps:
    """Records the input and output of named layers while it is open.

    The hooks live only inside the `with` block, so nothing stays behind on the model: it can be copied,
    pickled and compiled outside. A layer that runs several times leaves its last call, or
    the last one with gradients, if there are any.

    Args:
        model: The module to listen to.
        addresses: Layer addresses as `lkd.addresses.parse` reads them; `""` is the model itself, whether `model(x)` is
            called or `model.forward(x)`.
        argument: The name of the user's argument, for error messages.
        root: Submodule that stands for `""`. None for the model itself, or else, if its forward does not run, for
            the only outermost submodule with weights that does; `root` is its name then.
        seen: Called whenever a tapped layer has run.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> with Taps(net, ["0", ""]) as taps:
        ...     _ = net(torch.ones(4, 2))
        >>> taps.output("0").shape, taps.input("").shape
        (torch.Size([4, 3]), torch.Size([4, 2]))
    """

    def __init__(
        self,
        model: nn.Module,
        addresses: Iterable[str],
        argument: str = "layer",
        root: str | None = "",
        seen: Callable[[], None] | None = None,
    ) -> None:
        self._model, self._argument, self.root, self._notify = model, argument, root, seen
        layers = {parse(a, argument).module: find_layer(model, a, argument) for a in addresses}
        self._searches = "" in layers and root is None
        if root and "" in layers:
            layers[""] = find_layer(model, root, argument)
        self._layers = layers
        self._calls: dict[str, tuple[Call, Any]] = {}
        self._outermost: dict[str, tuple[Call, Any]] = {}
        self._learnt: set[str] = set()
        self._undo: list[Any] = []

    def __enter__(self) -> "Taps":
        for name, layer in self._layers.items():
            if layer is self._model and not isinstance(layer, torch.jit.ScriptModule):
                self._watch_forward(name)
            self._hook(layer.register_forward_hook(self._recorder(self._calls, name), with_kwargs=True))
        if self._searches:
            self._watch_submodules()
        return self

    def __exit__(self, *exc: object) -> None:
        while self._undo:
            self._undo.pop()()

    @property
    def complete(self) -> bool:
        """Whether every tapped layer has run."""
        return len(self._calls) == len(self._layers)

    def _hook(self, handle: RemovableHandle) -> None:
        self._undo.append(handle.remove)

    def _recorder(self, calls: dict[str, tuple[Call, Any]], name: str) -> Any:
        def record(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            learns = torch.is_grad_enabled()
            if name in self._learnt and not learns:
                return  # a metric on the side, which takes nothing from what is learnt
            if learns and calls is self._calls:
                self._learnt.add(name)
            calls[name] = Call(args, kwargs), output
            if self._notify is not None and calls is self._calls:
                self._notify()

        return record

    def _watch_forward(self, name: str) -> None:
        """A step may call `self.forward(x)`, which runs no hook."""
        model: Any = self._model
        forward, own = model.forward, vars(model).get("forward")
        record = self._recorder(self._calls, name)

        @functools.wraps(forward)
        def watched(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            record(model, args, kwargs, output)
            return output

        model.forward = watched
        self._undo.append(lambda: setattr(model, "forward", own) if own else delattr(model, "forward"))

    def _watch_submodules(self) -> None:
        """Knows which submodules with weights run inside of no other one."""
        running: list[str] = []

        def enter(name: str) -> Any:
            return lambda *_: running.append(name)

        def leave(name: str) -> Any:
            record = self._recorder(self._outermost, name)

            def left(*call: Any) -> None:
                running.pop()
                if not running:
                    record(*call)

            return left

        for name, layer in self._model.named_modules():
            if name and not isinstance(layer, Metric) and any(True for _ in layer.parameters()):
                self._hook(layer.register_forward_pre_hook(enter(name)))
                self._hook(layer.register_forward_hook(leave(name), with_kwargs=True))

    def _call(self, address: str) -> tuple[Call, Any]:
        name = parse(address, self._argument).module
        if name not in self._calls and name == "" and self._searches and len(self._outermost) == 1:
            self.root, self._calls[""] = next(iter(self._outermost.items()))
        if name not in self._calls:
            raise ValueError(self._missing(address, name))
        if self._searches and name == "" and self.root is None:
            self.root = ""
        return self._calls[name]

    def _missing(self, address: str, name: str) -> str:
        if self._searches and name == "":
            ran = list(self._outermost) or "none of its layers"
            return (
                f"{self._argument}={address!r}: the forward of {type(self._model).__name__} itself did not run during the step, but {ran} "
                "did; name the layer that gives what is compared as student_layer, and the one that is given the teacher's input as "
                "student_input."
            )
        where = f"layer {name!r}" if name else "the forward of the module itself"
        return (
            f"{self._argument}={address!r}: {where} did not run during the step; name a layer that does, "
            f"such as one of {[n for n, _ in self._model.named_children()]}."
        )

    def call(self, address: str) -> Call:
        """All that the layer was called with.

        Raises:
            ValueError: If the layer did not run.
        """
        return self._call(address)[0]

    def input(self, address: str) -> Any:
        """The first tensor that the layer was given, or else the first dict, which is the input of several modalities.

        Raises:
            ValueError: If the layer did not run, or was given neither.
        """
        call = self.call(address)
        given = (*call.args, *call.kwargs.values())
        for kind in (Tensor, dict):
            for value in given:
                if isinstance(value, kind):
                    return value
        raise ValueError(f"{self._argument}={address!r}: the layer was called without a tensor.")

    def output(self, address: str | list[str]) -> Any:
        """What the layer returned, or the list of it for a list of addresses.

        Raises:
            ValueError: If the layer did not run, or its output has no such entry.
        """
        if isinstance(address, list):
            return [self.output(a) for a in address]
        return entry_of(self._call(address)[1], address, self._argument)
