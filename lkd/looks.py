"""Times at which a training step reads values of its tensors: in its first batch, then now and then.

Reading waits for the device, and is not possible under `torch.func.vmap`, so a step that reads can neither
run ahead of the device nor be stacked over clients. A step hands its checks to `later`. Outside of a
training, and in its first batch, they are done at once. In later batches they are done when `EVERY` steps
have come together, or when `look_back` is called. Nothing is left out, only reported later.
"""

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

EVERY = 50
"""Number of steps after which a training runs the checks that have come together."""

Refuse = Callable[[list[float]], None]
"""Raises an error if the values that it is given are not right."""
Step = TypeVar("Step", bound=Callable[..., Any])


class _Waiting:
    """Checks of a module's training that are still to be done."""

    def __init__(self) -> None:
        self.entries: list[tuple[Sequence[Tensor], Refuse]] = []
        self.steps = 0

    def clear(self) -> None:
        self.entries, self.steps = [], 0

    def look(self) -> None:
        entries = self.entries
        self.clear()
        for values, (_, refuse) in zip(_numbers([values for values, _ in entries]), entries, strict=True):
            refuse(values)

    def explain(self) -> None:
        """Runs the open checks after a failed step, as they may explain it, unless the device has failed."""
        with contextlib.suppress(RuntimeError):
            self.look()


class _Gathered(_Waiting):
    """Checks that a caller has asked for, and runs itself."""


_NOBODY = _Waiting()
_of_module: weakref.WeakKeyDictionary[nn.Module, _Waiting] = weakref.WeakKeyDictionary()
_here: ContextVar[_Waiting | None] = ContextVar("lkd_looks", default=None)


def later(values: Sequence[Tensor], refuse: Refuse) -> None:
    """Checks values at once, or when the present training looks back.

    Args:
        values: Scalars, without their graphs.
        refuse: Function that gets them as numbers, and raises if they are not right.

    Raises:
        RuntimeError: For values inside of a `torch.func.vmap` that the step itself calls, as they cannot be
            read.

    Example:
        >>> def refuse(values):
        ...     if values[0] < 0:
        ...         raise ValueError(f"a negative label, {values[0]:g}.")
        >>> module = nn.Linear(1, 1)
        >>> with looking(module, first=False):
        ...     later([torch.tensor(-1)], refuse)
        >>> look_back(module)
        Traceback (most recent call last):
        ...
        ValueError: a negative label, -1.
    """
    here = _here.get()
    if here is _NOBODY:
        return
    if isinstance(here, _Gathered):
        here.entries.append((values, refuse))
    elif here is None or not all(map(_outlives, values)):
        refuse([float(value) for value in values])
    else:
        here.entries.append((values, refuse))


def looks() -> bool:
    """Returns whether values are read here: everywhere except in a training after its first batch."""
    return _here.get() is None


def can_look(value: Tensor) -> bool:
    """Returns whether `later` takes a tensor here: it can be read, or a caller gathers what is to be looked at.

    Example:
        >>> seen = []
        >>> _ = torch.func.vmap(lambda x: seen.append(can_look(x)) or x)(torch.ones(2))
        >>> can_look(torch.ones(2)), seen
        (True, [False])
    """
    return isinstance(_here.get(), _Gathered) or _outlives(value)


@contextlib.contextmanager
def looking(module: nn.Module, first: bool) -> Iterator[None]:
    """Runs a step of a module's training inside the block.

    Args:
        module: The module.
        first: Whether it is the first step of the training. All its values are read, and open checks of an
            earlier training are forgotten.

    Raises:
        Exception: The step's own error, or in its place that of an open check.
    """
    here = _here.get()
    if here is _NOBODY or isinstance(here, _Gathered):
        yield
        return
    waiting = _of_module.get(module)
    if waiting is None:
        waiting = _of_module[module] = _Waiting()
    if first:
        waiting.clear()
    token = _here.set(None if first else waiting)
    try:
        yield
    except Exception:
        waiting.explain()
        raise
    finally:
        _here.reset(token)
    if not first and here is not waiting:  # and the step is not part of another one of this module
        waiting.steps += 1
        if waiting.steps >= EVERY:
            waiting.look()


@contextlib.contextmanager
def unseen() -> Iterator[None]:
    """Turns checks off inside the block, for a caller that checks by itself, unless it gathers them."""
    here = _here.get()
    token = _here.set(here if isinstance(here, _Gathered) else _NOBODY)
    try:
        yield
    finally:
        _here.reset(token)


@contextlib.contextmanager
def gathering() -> Iterator[list[tuple[Sequence[Tensor], Refuse]]]:
    """Gathers the checks inside the block, for a caller that runs them itself; none is run here.

    So a step may run under `torch.func.vmap`, whose values can leave it as outputs alone.

    Example:
        >>> with gathering() as found:
        ...     later([torch.tensor(-1)], print)
        >>> [values for values, _ in found]
        [[tensor(-1)]]
    """
    found = _Gathered()
    token = _here.set(found)
    try:
        yield found.entries
    finally:
        _here.reset(token)


def look_back(module: nn.Module) -> None:
    """Runs all open checks of a module's steps.

    Raises:
        Exception: The first error that a check raises.
    """
    if module in _of_module:
        _of_module[module].look()


def forget(module: nn.Module) -> None:
    """Drops the open checks that an interrupted training has left."""
    if module in _of_module:
        _of_module[module].clear()


def looks_first(step: Step) -> Step:
    """Decorates a `training_step(self, batch, batch_idx)` so that batch number 0 is checked at once.

    Example:
        >>> class Net(nn.Module):
        ...     @looks_first
        ...     def training_step(self, batch, batch_idx=0):
        ...         return looks()
        >>> Net().training_step(None), Net().training_step(None, 1)
        (True, False)
    """

    @functools.wraps(step)
    def looked(self: nn.Module, batch: Any, batch_idx: int = 0) -> Any:
        with looking(self, batch_idx == 0):
            return step(self, batch, batch_idx)

    return cast(Step, looked)


def for_trainers(hook: Step) -> Step:
    """Marks a hook that does nothing in a client's training, so that no client calls it."""
    hook.for_trainers = True  # type: ignore[attr-defined]
    return hook


def _outlives(value: Tensor) -> bool:
    """Returns whether a tensor can be read, now and after the step.

    A tensor of a `torch.func` transformation has no memory.
    """
    try:
        value.data_ptr()
    except RuntimeError:
        return False
    return True


def _numbers(groups: Sequence[Sequence[Tensor]]) -> list[list[float]]:
    """Returns the values of all scalars, waiting only once for the device."""
    flat = [value for group in groups for value in group]
    if not flat:
        return [[] for _ in groups]
    if all(value.is_cpu for value in flat):
        return [[value.item() for value in group] for group in groups]
    device = flat[0].device
    wide = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    found = iter(torch.stack([value.to(device, wide).reshape(()) for value in flat]).tolist())
    return [[next(found) for _ in group] for group in groups]
