"""What a process of our own is made from, as bytes; what belongs to this process stays here."""

import io
import types
from typing import Any

import cloudpickle
from lightning.pytorch import Trainer

from lkd.federated.engines.base import Engine


def pickled(thing: Any, what: str) -> bytes:
    """Bytes for a process of our own; Trainers, federations and engines are left out of them.

    Args:
        thing: Anything, lambdas and classes of a script in it, too.
        what: What to call it in the message.

    Raises:
        ValueError: If something in it cannot be given to another process.
    """
    into = io.BytesIO()
    try:
        _Pickler(into).dump(thing)
    except Exception as error:
        raise ValueError(
            f"engine=Processes: {what} cannot be given to another process ({type(error).__name__}: {error}): keep open files, locks and "
            "such out of modules and data, or use engine=Loop()."
        ) from error
    return into.getvalue()


def _nothing() -> None:
    """In place of what belongs to this process."""


class _Pickler(cloudpickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        """Leaves out what belongs to this process."""
        owner = obj.__self__ if isinstance(obj, types.MethodType) else obj
        if isinstance(owner, Trainer | Engine) or hasattr(type(owner), "architectures"):
            return _nothing, ()
        return super().reducer_override(obj)
