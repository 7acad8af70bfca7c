"""Taps: inputs and outputs of named layers of any module during one forward pass."""

import functools
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from lkd.addresses import entry_of, find_layer, parse
from lkd.counted import Ran, counts, not_run
from lkd.kept import NOTHING, Kept
from lkd.outermost import Hooks, Outermost

_altered: weakref.WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], bool]] = weakref.WeakKeyDictionary()
"""For every model: which inputs and outputs of its layers were seen to be changed in place later."""


class Call(NamedTuple):
    """Arguments that a module was called with, positional and by keyword.

    Example:
        >>> given = Call((1,), {"scale": 2})
        >>> (lambda x, scale: x * scale)(*given.args, **given.kwargs)
        2
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Reached(Exception):  # noqa: N818  (no error: it ends a forward that has shown what was wanted)
    """Exception that ends a forward, since all tapped layers have run."""


class Taps:
    """Record of inputs and outputs of named layers while it is open, as they were when the layer ran.

    The hooks live only inside the `with` block, so nothing remains on the model: it can be copied, pickled
    and compiled outside. Of a layer that runs several times the last call is kept, or the last one with
    gradients, if there are any; `calls` says how many of these there were.

    Dicts and lists are copied when the layer runs, so what is taken out of them later does not matter.
    Tensors are not copied by themselves, and after a BatchNorm an in-place layer often changes them before
    they are compared. So the first pass copies what is tapped, and later passes copy what the first one has
    seen changed.

    Args:
        model: The module to listen to.
        addresses: Layer addresses as `lkd.addresses.parse` reads them; `""` is the model itself, whether
            `model(x)` is called or `model.forward(x)`.
        argument: The name of the user's argument, for error messages.
        root: Submodule that stands for `""`. None for the model itself or, if its forward does not run, for
            the only outermost submodule with weights that does; `root` is then its name.
        seen: Function that is called whenever a tapped layer has run.
        sides: What will be asked for: inputs of layers, outputs, or both.
        inputs: Further addresses, of which nothing but the inputs will be asked for.
        inputs_argument: The name of the user's argument for these.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
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
        sides: Sequence[Literal["given", "gave"]] = ("given", "gave"),
        inputs: Sequence[str] = (),
        inputs_argument: str = "student_input",
    ) -> None:
        self.model, self._argument, self.root, self._notify = model, argument, root, seen
        self._addresses: dict[str, list[str]] = {}
        self._sides: dict[str, set[str]] = {}
        self._layers: dict[str, nn.Module] = {}
        for address in addresses:
            self._addresses.setdefault(self._tap(address, argument, sides), []).append(address)
        self._inputs = {
            self._tap(address, inputs_argument, ("given",)): inputs_argument for address in inputs
        }
        layers = self._layers
        self._searches = "" in layers and root is None
        if root and "" in layers:
            layers[""] = find_layer(model, root, argument)
        self._ran: dict[str, Ran] = {}
        self._outermost_ran: dict[str, Ran] = {}
        self._outermost = Outermost(model)
        self._learned: set[str] = set()
        self._open: dict[tuple[bool, str], int] = {}
        self._calls: dict[tuple[bool, str], int] = {}
        self._entered: tuple[bool, str] | None = None
        self._undo: list[Any] = []
        self._known = _altered.setdefault(model, {})

    def _tap(self, address: str, argument: str, sides: Sequence[str]) -> str:
        """Finds a layer whose inputs or outputs will be asked for, and returns its name."""
        name = parse(address, argument).module
        if name not in self._layers:
            self._layers[name] = find_layer(self.model, address, argument)
        self._sides.setdefault(name, set()).update(sides)
        return name

    def __enter__(self) -> "Taps":
        for name, layer in self._layers.items():
            if layer is self.model and not isinstance(layer, torch.jit.ScriptModule):
                self._watch_forward(name)
            before, after = self._recorder(self._ran, name)
            self._undo.append(layer.register_forward_pre_hook(before, with_kwargs=True).remove)
            self._undo.append(layer.register_forward_hook(after, with_kwargs=True).remove)
        if self._searches:
            watched = self._outermost.watch(functools.partial(self._recorder, self._outermost_ran))
            self._undo += [handle.remove for handle in watched]
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        while self._undo:
            self._undo.pop()()
        if kind is None:  # in a pass that breaks off, what follows a layer was not seen
            for ran in (*self._ran.values(), *self._outermost_ran.values()):
                for side, kept in (("given", ran.given), ("gave", ran.gave)):
                    if kept is not NOTHING and (*ran.key, side) not in self._known:
                        self._known[(*ran.key, side)] = kept.altered

    @property
    def complete(self) -> bool:
        """Whether every tapped layer has run."""
        return len(self._ran) == len(self._layers)

    @property
    def learned(self) -> bool:
        """Whether every tapped layer has run with gradients, so that no call without them is the last."""
        return len(self._learned) == len(self._layers)

    def _recorder(self, ran: dict[str, Ran], name: str) -> Hooks:
        waiting: list[Kept] = []
        counted, sides = (ran is self._ran, name), self._sides[name if ran is self._ran else ""]
        self._open[counted] = 0

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._open[counted] += 1
            self._entered = counted
            waiting.append(given((args, kwargs)))

        def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            was = waiting.pop() if waiting else given((args, kwargs))  # it may have been running already
            learns = torch.is_grad_enabled()
            self._open[counted] -= 1
            if learns and counts() and self._open[counted] <= 0:  # not inside of its own call
                self._calls[counted] = self._calls.get(counted, 0) + 1
            if name in self._learned and not learns:
                return  # such as a metric, which takes no part in training
            if learns and ran is self._ran:
                self._learned.add(name)
            key = self._key(name)
            ran[name] = Ran(was, gave(output, key), key)
            if self._notify is not None and ran is self._ran:
                self._notify()

        def given(call: Any) -> Kept:
            if "given" not in sides:
                return NOTHING
            return Kept(call, call) if self._copies(self._key(name), "given") else Kept(call)

        def gave(output: Any, key: tuple[Any, ...]) -> Kept:
            if "gave" not in sides:
                return NOTHING
            if not self._copies(key, "gave"):
                return Kept(output)
            named = self._addresses.get(name if ran is self._ran else "", ())
            return Kept(output, [self._entry(output, address) for address in named])

        return before, after

    def _key(self, name: str) -> tuple[Any, ...]:
        """Returns the key under which changes of a layer's values are known; they differ between modes."""
        return name or self.root or "", self.model.training, torch.is_grad_enabled()

    def _copies(self, key: tuple[Any, ...], side: str) -> bool:
        """Returns whether a layer's values are copied: they change later, or nobody has seen yet that they do not."""
        return self._known.get((*key, side), True)

    def _entry(self, output: Any, address: str) -> Any:
        try:
            return entry_of(output, address, self._argument)
        except ValueError:  # raised again when the entry is asked for
            return None

    def _watch_forward(self, name: str) -> None:
        """Watches a layer's forward too, since a step may call `self.forward(x)`, which runs no hook."""
        model: Any = self.model
        forward, own = model.forward, vars(model).get("forward")
        before, after = self._recorder(self._ran, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if self._entered == (True, name):  # the model itself was called, so hooks are at it
                self._entered = None
                return forward(*args, **kwargs)
            before(model, args, kwargs)
            self._entered = None
            output = forward(*args, **kwargs)
            after(model, args, kwargs, output)
            return output

        watched.__wrapped__ = forward  # type: ignore[attr-defined]  # whose arguments are asked for
        attributes = vars(model)  # setattr of nn.Module takes as long as a hook
        attributes["forward"] = watched
        self._undo.append(lambda: attributes.update(forward=own) if own else attributes.pop("forward"))

    def _call(self, address: str, argument: str) -> Ran:
        name = parse(address, argument).module
        if name not in self._ran and name == "" and self._searches and len(self._outermost_ran) == 1:
            self.root, self._ran[""] = next(iter(self._outermost_ran.items()))
            self._calls[True, ""] = self._calls.get((False, self.root), 0)
        if name not in self._ran:
            several = list(self._outermost_ran) if self._searches and name == "" else None
            raise ValueError(not_run(self.model, name, f"{argument}={address!r}", self.root, several))
        if self._searches and name == "" and self.root is None:
            self.root = ""
        return self._ran[name]

    @property
    def repeated(self) -> bool:
        """Whether a layer has run several times with gradients."""
        return any(count > 1 for count in self._calls.values())

    def calls(self, address: str) -> int:
        """Returns how many times the layer has run with gradients.

        Example:
            >>> net = nn.Linear(1, 1)
            >>> with Taps(net, [""]) as taps:
            ...     _ = net(torch.ones(1, 1)), net.forward(torch.ones(2, 1))
            >>> taps.calls("")
            2
        """
        return self._calls.get((True, parse(address, self._argument).module), 0)

    def _as_it_was(self, kept: Kept, part: Any, key: tuple[Any, ...], side: str, named: str) -> Any:
        if not kept.changed(part):
            return part  # without a copy, which would add a node to the graph
        if not kept.copied(part):
            raise ValueError(
                f"{named}: what this layer {'was given' if side == 'given' else side} has been changed in place "
                "since, which was not so in the first step, and what it was is lost; set inplace=False in what changes it, or name "
                "that layer instead."
            )
        self._known[(*key, side)] = True
        return kept.before(part)

    def call(self, address: str) -> Call:
        """Returns all arguments that the layer was called with.

        Raises:
            ValueError: If the layer did not run.
        """
        ran = self._call(address, argument := self._asked(address))
        return Call(*self._as_it_was(ran.given, ran.given.value, ran.key, "given", f"{argument}={address!r}"))

    def input(self, address: str) -> Any:
        """Returns the layer's first tensor input, or else the first dict, as with several modalities.

        Raises:
            ValueError: If the layer did not run, or had neither.
        """
        call = self.call(address)
        given = (*call.args, *call.kwargs.values())
        for kind in (Tensor, dict):
            for value in given:
                if isinstance(value, kind):
                    return value
        raise ValueError(f"{self._asked(address)}={address!r}: the layer was called without a tensor.")

    def _asked(self, address: str) -> str:
        """Returns the argument by which the user named a layer whose inputs are asked for."""
        return self._inputs.get(parse(address, self._argument).module, self._argument)

    def output(self, address: str | list[str]) -> Any:
        """Returns the layer's output, or a list of outputs for a list of addresses.

        Raises:
            ValueError: If the layer did not run, or its output has no such entry.
        """
        if isinstance(address, list):
            return [self.output(a) for a in address]
        ran = self._call(address, self._argument)
        part = entry_of(ran.gave.value, address, self._argument)
        return self._as_it_was(ran.gave, part, ran.key, "gave", f"{self._argument}={address!r}")

    def read_through(self, loss: Any) -> str | None:
        """Returns the layer without weights between the model's output and a loss, or None without one."""
        return self._outermost.used(self._ran[""].gave.value, loss) if "" in self._ran else None
