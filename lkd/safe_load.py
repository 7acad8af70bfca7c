"""Reading of untrusted torch files: tensors, numbers and text alone, whatever else is allowed."""

import pickle
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

_ONE_AT_A_TIME = threading.RLock()


def load(path: str | Path, allowed: Sequence[Any] = ()) -> Any:
    """Loads a file like `torch.load(path, weights_only=True)` on the CPU, with torch's own safe classes.

    Libraries add classes to torch's list for the life of a process (Ultralytics does, for each file that it
    reads), and every later `weights_only=True` would take them too.

    Args:
        path: The file.
        allowed: Further names that it may hold, in the form of `torch.serialization.add_safe_globals`.

    Raises:
        pickle.UnpicklingError: If the file holds objects of other classes.

    Example:
        >>> import io, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"weight": torch.ones(2)}, f"{folder}/x.pt")
        ...     load(f"{folder}/x.pt")
        {'weight': tensor([1., 1.])}
    """
    with only_tensors(allowed):
        return torch.load(path, map_location="cpu", weights_only=True)


def holds_objects(error: Exception, path: str | Path) -> bool:
    """Returns whether a file could not be read because of objects in it, and not because it is damaged."""
    return isinstance(error, pickle.UnpicklingError) and (zipfile.is_zipfile(path) or "GLOBAL" in str(error))


@contextmanager
def only_tensors(allowed: Sequence[Any] = ()) -> Iterator[None]:
    """Limits torch's safe classes inside the block to its own and `allowed`, and restores them after it."""
    with _ONE_AT_A_TIME:
        added = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals([*(one for one in added if _own(one)), *allowed])
        try:
            yield
        finally:
            torch.serialization.clear_safe_globals()
            torch.serialization.add_safe_globals(added)


def _own(allowed: Any) -> bool:
    """Returns whether torch itself put a class on its list: exceptions, traces and tensors, no modules."""
    known = getattr(allowed, "__module__", "").partition(".")[0] in ("builtins", "traceback", "torch")
    return known and not (isinstance(allowed, type) and issubclass(allowed, torch.nn.Module))
