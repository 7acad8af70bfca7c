"""Runs a module without a trace: buffers, plain attributes and random state are restored afterward."""

import collections
import contextlib
import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.utils.data import Dataset

from lkd.kept import version
from lkd.plain_objects import is_plain

OWN = frozenset(vars(nn.Module()))
"""Attributes that every module has."""
HELD = (
    list,
    dict,
    set,
    collections.deque,
    collections.OrderedDict,
    collections.defaultdict,
    collections.Counter,
)
"""Collections whose entries are put back, with the contents of these."""
DRAWS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
"""Generators of random numbers."""
MOST = 10_000
"""Entries beyond which a collection counts as data, and number of collections that are looked into."""
LARGE = 2**28
"""Bytes from which a tensor or array counts as data, and is not copied."""


@contextlib.contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Undoes what a forward changes: batch statistics, counters, collections, arrays, draws.

    Gradients are ignored.

    Attributes of the module and its submodules are put back: collections and objects of the user's own classes
    with all their contents, tensors and arrays below 256 MiB, and random generators. Other objects are
    ignored. A warning names what cannot be put
    back: iterators, and larger tensors that have changed.

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
    attributes = _attributes(parts, LARGE)
    for part, kept in attributes:
        for key, (value, _) in kept.items():
            if isinstance(value, Iterator):
                rank_zero_warn(
                    f"{type(part).__name__}.{key} is an iterator: what a look at a batch before training takes from it cannot be put back."
                )
    with isolate_rng():
        try:
            yield
        finally:
            with torch.no_grad():
                for owner, key, buffer, before in buffers:
                    owner._buffers[key] = buffer.copy_(before)
                for owner, kept in attributes:
                    _restore(vars(owner), kept)


def attributes_back(module: nn.Module, large: int) -> Callable[[], None]:
    """Returns a function that puts the attributes of a module back, as `unchanged` does.

    Args:
        module: The module.
        large: Bytes from which a tensor or array is not copied.
    """
    attributes = _attributes(list(module.modules()), large)

    def back() -> None:
        for owner, kept in attributes:
            _restore(vars(owner), kept)

    return back


@contextlib.contextmanager
def unopened(data: Any) -> Iterator[None]:
    """Restores the attributes and generators of a data set, and of those inside it, after a look at samples.

    Otherwise a file that is opened with the first sample would be shared by all workers that are forked
    later, and their reads would mix.

    Args:
        data: The data set.

    Example:
        >>> class Lines(torch.utils.data.Dataset):
        ...     file = None
        ...     def __getitem__(self, k):
        ...         self.file = self.file or object()
        >>> lines = Lines()
        >>> with unopened(lines):
        ...     lines[0]
        >>> lines.file is None
        True
    """
    kept, waiting, seen = [], [data], set[int]()
    while waiting:
        owner = waiting.pop()
        if id(owner) in seen or not hasattr(owner, "__dict__"):
            continue
        seen.add(id(owner))
        values = {
            k: (v, _back(v, seen, LARGE) if isinstance(v, DRAWS) else None) for k, v in vars(owner).items()
        }
        kept.append((owner, values))
        for value, _ in values.values():
            several = value if isinstance(value, list | tuple) and len(value) < 1000 else [value]
            waiting += [inner for inner in several if isinstance(inner, Dataset)]
    try:
        yield
    finally:
        for owner, values in kept:
            _restore(vars(owner), values)


Kept = dict[str, tuple[Any, Callable[[], Any] | None]]


def _attributes(parts: list[nn.Module], large: int) -> list[tuple[nn.Module, Kept]]:
    seen: set[int] = set()
    return [(m, {k: (v, _back(v, seen, large)) for k, v in vars(m).items() if k not in OWN}) for m in parts]


def _restore(now: dict[str, Any], kept: Kept) -> None:
    for key in [key for key in now if key not in OWN and key not in kept]:
        del now[key]
    for key, (value, back) in kept.items():
        now[key] = value
        if back is not None:
            back()


def _back(value: Any, seen: set[int], large: int) -> Callable[[], Any] | None:
    """Returns a function that restores a value's content, or None if it has none, or is known already."""
    if id(value) in seen:
        return None
    seen.add(id(value))
    if type(value) in HELD:
        return _collection(value, seen, large)
    if isinstance(value, tuple):
        return _all(_back(entry, seen, large) for entry in value)
    if is_plain(value):
        kept: Kept = {key: (entry, _back(entry, seen, large)) for key, entry in vars(value).items()}
        return lambda: _restore(vars(value), kept)
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        return _tensor(value, large)
    if isinstance(value, np.ndarray) and value.flags.writeable and value.nbytes < large:
        array = value.copy()
        return lambda: np.copyto(value, array)
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return lambda: value.set_state(state)
    if isinstance(value, np.random.Generator):
        drawn = value.bit_generator.state  # a copy already
        return lambda: setattr(value.bit_generator, "state", drawn)
    if isinstance(value, np.random.RandomState):
        numbers = value.get_state()
        return lambda: value.set_state(numbers)
    if isinstance(value, random.Random):
        inner = value.getstate()
        return lambda: value.setstate(inner)
    return None


def _collection(value: Any, seen: set[int], large: int) -> Callable[[], None]:
    content = copy.copy(value)
    entries = value.values() if isinstance(value, dict) else value
    # more are data, whose entries nobody changes in a step
    inner = _all(_back(e, seen, large) for e in entries) if max(len(value), len(seen)) <= MOST else None

    def back() -> None:
        value.clear()
        value.extend(content) if hasattr(value, "extend") else value.update(content)
        if inner is not None:
            inner()

    return back


def _tensor(value: Tensor, large: int) -> Callable[[], None] | None:
    if value.is_inference() or value.is_meta:
        return None
    before = value.detach().clone() if value.nbytes < large else None
    counted = version(value)

    def back() -> None:
        if before is not None and version(value) != counted:
            value.copy_(before)
        elif version(value) != counted:
            rank_zero_warn(
                f"a look at a batch before training has changed a tensor {tuple(value.shape)} of the module, which is too large to be put back."
            )

    return back


def _all(backs: Iterator[Callable[[], Any] | None]) -> Callable[[], None] | None:
    found = [back for back in backs if back is not None]

    def back() -> None:
        for one in found:
            one()

    return back if found else None
