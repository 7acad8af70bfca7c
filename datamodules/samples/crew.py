"""Processes that fetch batches and stay, since a start takes longer than a client's short passes."""

from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

DEPTH = 8  # levels of objects within objects that are compared
FEW = 64  # entries of a list or dict that are compared one by one


class Crew:
    """Worker processes for passes over tasks, which stay from pass to pass, also from client to client.

    They are started anew if an attribute of the data set (or of what it holds, such as its transforms) has
    changed since their start, so that batches are those of the data set as it is. Writes into an array or a
    long list in place are not noticed. A pass that begins during another one has processes of its own.

    Args:
        source: data set that gives a batch for a task.
        options: options of `torch.utils.data.DataLoader`, with `num_workers`.
    """

    def __init__(self, source: Dataset[Any], options: Mapping[str, Any]) -> None:
        self._source, self._options = source, options
        self._idle: tuple[DataLoader, Any] | None = None

    def fetch(self, tasks: Sequence[Any]) -> Iterator[Any]:
        """Yields the batches of these tasks, in order."""
        now = look(self._source)
        loader, seen = self._idle or (None, None)
        self._idle = None
        if loader is None or seen != now:
            loader = self._start()
        pending: Any = loader.sampler
        pending.tasks = tasks
        try:
            yield from loader
        except Exception:
            loader = None
            raise
        finally:  # a pass may be given up before its end
            self._idle = None if loader is None else (loader, now)

    def dismiss(self) -> None:
        """Ends the processes; the next pass starts new ones."""
        self._idle = None

    def _start(self) -> DataLoader:
        return DataLoader(
            self._source,
            batch_size=None,
            sampler=_Tasks(),
            collate_fn=_same,
            persistent_workers=True,
            generator=torch.Generator().manual_seed(0),  # else it draws from the global state
            **self._options,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state without the processes, for a copy."""
        return {**vars(self), "_idle": None}


class _Tasks(Sampler[Any]):
    """Sampler of the tasks of the pass that begins."""

    def __init__(self) -> None:
        self.tasks: Sequence[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)


def _same(batch: Any) -> Any:
    return batch


def look(value: Any) -> Any:
    """Returns what an object holds, so that two looks differ if an attribute of it has changed in between.

    Args:
        value: anything.

    Example:
        >>> data = type("Data", (), {})()
        >>> data.size = 32
        >>> before = look(data)
        >>> data.size = 64
        >>> look(data) == before
        False
    """
    return _look(value, DEPTH, set())


def _look(value: Any, depth: int, seen: set[int]) -> Any:
    if value is None or isinstance(value, bool | int | float | str | bytes | np.generic):
        return value
    if isinstance(value, Tensor):
        return id(value), value._version
    inside: Any = ()
    if isinstance(value, Mapping):
        inside = value.items()
    elif isinstance(value, list | tuple | set | frozenset):
        inside = dict(enumerate(value)).items() if len(value) <= FEW else range(len(value))
    elif hasattr(value, "__dict__") and not isinstance(value, type | ModuleType | Crew):
        inside = vars(value).items()
    if not depth or len(inside) > FEW or id(value) in seen:
        return id(value), len(inside)
    seen.add(id(value))
    return id(value), tuple((str(key), _look(one, depth - 1, seen)) for key, one in inside)
