"""Layers that stand for the forward of a module whose step calls them instead."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.modules.loss import _Loss
from torchmetrics import Metric

from lkd.nested import tensors

Hooks = tuple[Callable[..., None], Callable[..., None]]
"""A hook before the forward of a layer, and one after it."""


class After(NamedTuple):
    """Result that a layer without weights made of a tensor."""

    name: str
    given: Tensor
    gave: Any  # node of the graph that made the output


class Outermost:
    """Submodules with weights that run inside no other one, and those without weights that follow them.

    Args:
        model: The module whose submodules are watched.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._running: list[str] = []
        self._after: list[After] = []

    def watch(self, hooks: Callable[[str], Hooks]) -> Iterator[Any]:
        """Registers hooks; `hooks(name)` are the ones that record an outermost submodule with weights."""
        for name, layer in self._model.named_modules():
            if not name or isinstance(layer, Metric):
                continue
            if any(True for _ in layer.parameters()):
                enter, leave = self._around(name, *hooks(name))
                yield layer.register_forward_pre_hook(enter, with_kwargs=True)
                yield layer.register_forward_hook(leave, with_kwargs=True)
            elif not isinstance(layer, _Loss | nn.LogSoftmax):  # these change nothing for a loss behind them
                yield layer.register_forward_hook(self._follow(name), with_kwargs=True)

    def _around(self, name: str, before: Callable[..., None], after: Callable[..., None]) -> Hooks:
        def enter(*call: Any) -> None:
            if not self._running:
                before(*call)
            self._running.append(name)

        def leave(*call: Any) -> None:
            self._running.pop()
            if not self._running:
                after(*call)

        return enter, leave

    def _follow(self, name: str) -> Callable[..., None]:
        def follow(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            given = tensors((args, kwargs))
            if self._running or len(given) != 1 or not isinstance(output, Tensor):
                return
            if output is given[0] and not getattr(layer, "inplace", False):
                return  # the layer has returned its input
            if output.dim() > 1 and len(output) == len(given[0]) and output.grad_fn is not None:
                self._after.append(After(name, given[0], output.grad_fn))

        return follow

    def used(self, output: Any, loss: Any) -> str | None:
        """Returns the layer without weights before a loss, as `act` in `loss(self.act(self.net(x)))`.

        Args:
            output: Output of the outermost layer.
            loss: The step's own loss, with its graph.
        """
        ours = {id(tensor) for tensor in tensors(output)}
        found = [after for after in self._after if id(after.given) in ours]
        if not found or not isinstance(loss, Tensor):
            return None
        graph, waiting = set(), [loss.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is not None and node not in graph:
                graph.add(node)
                waiting += [below for below, _ in node.next_functions]
        return next((after.name for after in found if after.gave in graph), None)
