"""Serialization of what a worker process is built from, without what belongs to this process alone."""

import io
import types
from typing import Any

import cloudpickle
from lightning.pytorch import Trainer

from lkd.federated.engines.base import Engine


def pickled(thing: Any, what: str) -> bytes:
    """Pickles a thing for a worker process of this user; Trainers, federations and engines are left out.

    Args:
        thing: Any object; it may contain lambdas and classes of a script.
        what: Name of the thing, for the message.

    Raises:
        ValueError: If something in it cannot be pickled.
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
    """Stands for an object that belongs to this process."""


class _Pickler(cloudpickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        """Replaces Trainers, engines and federations by None."""
        owner = obj.__self__ if isinstance(obj, types.MethodType) else obj
        if isinstance(owner, Trainer | Engine) or hasattr(type(owner), "architectures"):
            return _nothing, ()
        return super().reducer_override(obj)
