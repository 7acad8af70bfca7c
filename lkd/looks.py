"""When a training step looks at the values of its tensors: in its first batch at once, afterwards now and then.

A look waits for the device, and has no answer under `torch.func.vmap`, so that a step that looks can neither run ahead
of the device nor be stacked over clients. What a step would check it hands to `later`: outside of a training, and in its
first batch, that is checked at once; in the batches after it, when `EVERY` steps have come together, or `look_back` is
called. Nothing is left out, it is only told later.
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
"""Steps after which a training looks at what has come together."""

Refuse = Callable[[list[float]], None]
"""Raises an error if the values that it is given are not right."""
Step = TypeVar("Step", bound=Callable[..., Any])


class _Waiting:
    """What of a module's training is still to be looked at."""

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
        """A step has failed: what was put off may say why, unless the device itself answers no more."""
        with contextlib.suppress(RuntimeError):
            self.look()


_NOBODY = _Waiting()
_of_module: weakref.WeakKeyDictionary[nn.Module, _Waiting] = weakref.WeakKeyDictionary()
_here: ContextVar[_Waiting | None] = ContextVar("lkd_looks", default=None)


def later(values: Sequence[Tensor], refuse: Refuse) -> None:
    """Checks values, now or when the training that is under way looks back.

    Args:
        values: Scalars, without their graphs.
        refuse: Is given them as numbers, and raises if they are not right.

    Raises:
        RuntimeError: For values inside of a `torch.func.vmap` that the step itself calls; they cannot be looked at.

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
    if here is None or not all(map(_outlives, values)):
        refuse([float(value) for value in values])
    else:
        here.entries.append((values, refuse))


def looks() -> bool:
    """Whether values are looked at here: everywhere but in a training after its first batch."""
    return _here.get() is None


@contextlib.contextmanager
def looking(module: nn.Module, first: bool) -> Iterator[None]:
    """A step of a module's training runs inside.

    Args:
        module: The module.
        first: Whether it is the training's first step, in which all is looked at, and with which all that an earlier training
            has left is forgotten.

    Raises:
        Exception: What the step raises, or in its place what is wrong with the values that were put off.
    """
    here = _here.get()
    if here is _NOBODY:
        yield
        return
    waiting = _of_module.setdefault(module, _Waiting())
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
    if not first and here is not waiting:  # and the step is not a part of another one of this module
        waiting.steps += 1
        if waiting.steps >= EVERY:
            waiting.look()


@contextlib.contextmanager
def unseen() -> Iterator[None]:
    """Nothing inside is looked at, at no time: whoever calls looks for himself."""
    token = _here.set(_NOBODY)
    try:
        yield
    finally:
        _here.reset(token)


def look_back(module: nn.Module) -> None:
    """Looks at all that has come together in a module's steps since the last look.

    Raises:
        Exception: The first of the errors that were put off.
    """
    if module in _of_module:
        _of_module[module].look()


def forget(module: nn.Module) -> None:
    """Drops what a training that broke off has left."""
    if module in _of_module:
        _of_module[module].clear()


def looks_first(step: Step) -> Step:
    """Decorates a `training_step(self, batch, batch_idx)`: the batch with the number 0 is looked at at once.

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


def _outlives(value: Tensor) -> bool:
    """Whether a tensor is still one after the step; one of a transformation by `torch.func` has no memory of its own."""
    try:
        value.data_ptr()
    except RuntimeError:
        return False
    return True


def _numbers(groups: Sequence[Sequence[Tensor]]) -> list[list[float]]:
    """The values of all scalars; one wait for the device, however many they are."""
    flat = [value for group in groups for value in group]
    if not flat:
        return [[] for _ in groups]
    device = flat[0].device
    wide = torch.float32 if device.type == "mps" else torch.float64  # which Apple's GPUs do not know
    found = iter(torch.stack([value.to(device, wide).reshape(()) for value in flat]).tolist())
    return [[next(found) for _ in group] for group in groups]
