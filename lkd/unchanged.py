"""Runs a module without a trace: buffers, plain attributes and random state are afterwards as they were."""

import collections
import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

OWN = frozenset(vars(nn.Module()))
"""Attributes that every module has."""
HELD = (list, dict, set, collections.deque)


@contextlib.contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Takes back what a forward changes: batch statistics, counters, lists that grow, draws; gradients are not looked at.

    Args:
        module: The module; its parameters must not change inside.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> with unchanged(norm):
        ...     _ = norm(torch.ones(3, 2))
        >>> norm.running_mean.tolist(), norm.num_batches_tracked.item()
        ([0.0, 0.0], 0)
    """
    parts = list(module.modules())
    buffers = [(m, key, b, b.clone()) for m in parts for key, b in m._buffers.items() if b is not None]
    attributes = [(m, {key: (v, _content(v)) for key, v in vars(m).items() if key not in OWN}) for m in parts]
    with isolate_rng():
        try:
            yield
        finally:
            with torch.no_grad():
                for owner, key, buffer, before in buffers:
                    owner._buffers[key] = buffer.copy_(before)
            for owner, kept in attributes:
                _restore(vars(owner), kept)


def _content(value: Any) -> Any:
    return type(value)(value) if type(value) in HELD else None


def _restore(now: dict[str, Any], kept: dict[str, tuple[Any, Any]]) -> None:
    for key in [key for key in now if key not in OWN and key not in kept]:
        del now[key]
    for key, (value, content) in kept.items():
        now[key] = value
        if content is not None:
            value.clear()
            value.extend(content) if hasattr(value, "extend") else value.update(content)
