"""Calls of a tapped layer: what is kept of one, which of them count, and what is said where there was none."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn

from lkd.kept import Kept


class Ran(NamedTuple):
    """One call of a layer."""

    given: Kept
    gave: Kept
    key: tuple[Any, ...]


_counts: contextvars.ContextVar[bool] = contextvars.ContextVar("counts", default=True)


def counts() -> bool:
    """Returns whether calls are counted here."""
    return _counts.get()


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
    """Leaves what runs inside the block out of all counts of calls: a pass that repeats an earlier one."""
    token = _counts.set(False)
    try:
        yield
    finally:
        _counts.reset(token)


def not_run(model: nn.Module, name: str, named: str, root: str | None, outermost: list[str] | None) -> str:
    """Says that a layer did not run.

    Args:
        model: The model.
        name: Name of the layer; `""` is the model itself.
        named: The user's argument and its value.
        root: Layer that an earlier step has found in place of the model's forward.
        outermost: Layers that ran in place of the model's forward, where one is searched for.

    Example:
        >>> print(not_run(nn.Sequential(nn.ReLU()), "1", "layer='1'", "", None))
        layer='1': layer '1' did not run during the step; name a layer that does, such as one of ['0'].
    """
    if outermost is not None:
        ran = outermost or "none of its layers"
        return (
            f"{named}: the forward of {type(model).__name__} itself did not run during the step, but {ran} "
            "did; name the one that is given the teacher's input as student_input and, if you have not yet, the one that gives what "
            "is compared as student_layer."
        )
    where = f"layer {name!r}" if name else "the forward of the module itself"
    if name == "" and root:  # found by an earlier step
        where = f"layer {root!r}, which an earlier step has called for that,"
    return (
        f"{named}: {where} did not run during the step; name a layer that does, "
        f"such as one of {[n for n, _ in model.named_children()]}."
    )
