"""Floating-point operations of networks, counted by torch's own formulas."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from lkd.stack_size import is_stacked, stack_size


class FlopCount:
    """Counter of FLOPs (2 per multiply-accumulate) of all networks that are called while it is active.

    A network's first call with inputs of some shapes is counted operator by operator, with the formulas of
    `torch.utils.flop_counter`; further calls of the same network and shapes add the same number, so counting
    costs almost nothing. A module that is called without a positional tensor is not counted itself, but the
    modules that it calls are.

    A call for several stacked clients counts for all of them.

    A call whose output has gradients counts three times, since a backward pass costs at most twice its
    forward pass (less for the first layer's input and for frozen layers). Matrix products, convolutions and
    attention have formulas; everything else, such as optimizers, counts nothing.

    Example:
        >>> net = nn.Linear(3, 2)
        >>> with FlopCount() as count:
        ...     _ = net(torch.zeros(5, 3))
        >>> count.total  # 5 * 3 * 2 products and sums, three times
        180
    """

    def __init__(self) -> None:
        self.total = 0
        # by identity: the hash of a torchmetrics metric changes with its figures
        self._known: dict[int, tuple[ref[nn.Module], dict[Any, int]]] = {}
        self._calls: list[Any] = []  # shapes of the inputs of all active calls, the outermost first
        self._mode: _Formulas | None = None
        self._hooks: list[Any] = []

    def __enter__(self) -> "FlopCount":
        """Starts counting operations."""
        self._hooks = [
            register_module_forward_pre_hook(self._before),
            register_module_forward_hook(self._after, always_call=True),
        ]
        return self

    def __exit__(self, *exception: object) -> None:
        """Stops counting; `total` stays."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._calls = [], []

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        shapes = tuple(tensor.shape for tensor in _tensors(args))
        key = (stack_size(), *shapes) if shapes and not _uncounted else ()
        outermost = not any(self._calls)
        self._calls.append(key)
        if key and outermost and key not in self._of(module):
            self._mode = _Formulas()
            self._mode.__enter__()

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        key = self._calls.pop() if self._calls else ()  # empty for a call that began before the counting
        if not key or any(self._calls):
            return
        if self._mode is not None:
            self._mode.__exit__(None, None, None)
            self._of(module)[key] = self._mode.total
            self._mode = None
        stacked = is_stacked() and torch.is_grad_enabled()  # a tensor of a stack does not tell
        taken = stacked or any(tensor.requires_grad for tensor in _tensors(output))
        self.total += self._of(module)[key] * (3 if taken else 1)

    def _of(self, module: nn.Module) -> dict[Any, int]:
        if id(module) not in self._known:
            gone = partial(self._known.pop, id(module))  # another module may get its id
            self._known[id(module)] = (ref(module, lambda _: gone(None)), {})
        return self._known[id(module)][1]


_uncounted: list[None] = []


@contextmanager
def uncounted() -> Iterator[None]:
    """Lets no counter count inside, for calls that are no part of the work."""
    _uncounted.append(None)
    try:
        yield
    finally:
        _uncounted.pop()


class _Formulas(TorchDispatchMode):
    """Dispatch mode that sums torch's formulas over all operators."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = getattr(func, "_overloadpacket", None)
        formula = flop_registry.get(packet)
        if formula is None and packet is not None and func is not torch.ops.prim.device.default:
            with self:  # an operator composed of others, as all are in inference mode
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        output = func(*args, **kwargs)
        if formula is not None:
            self.total += int(formula(*args, **kwargs, out_val=output))
        return output


def _tensors(value: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))
