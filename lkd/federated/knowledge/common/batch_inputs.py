"""How a module's forward is called with a batch."""

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
from torch import nn

from lkd.batches import LABELS, Keys, call_of
from lkd.federated.protocol.client_data import PublicSamples
from lkd.federated.protocol.messages import RefusalError
from lkd.federated.protocol.runtime import Runtime
from lkd.taps import Call


def inputs_of(batch: Any) -> Any:
    """Returns the x of a pair (x, y), or the whole batch, for modules that take a dict of modalities.

    Example:
        >>> inputs_of((1, 2)), inputs_of({"images": 3})
        (1, {'images': 3})
    """
    return batch[0] if isinstance(batch, list | tuple) else batch


def run(module: nn.Module, call: Call) -> Any:
    """Calls a module.

    Args:
        module: The module.
        call: Arguments of its forward.

    Raises:
        RefusalError: If the forward fails on a whole dict.
    """
    with told(module, call):
        return module(*call.args, **call.kwargs)


@contextlib.contextmanager
def told(module: nn.Module, call: Call) -> Iterator[None]:
    """Explains errors of the module's forward on a whole dict: the message says how to name an entry.

    Raises:
        RefusalError: If the forward inside fails and was given a whole dict.
    """
    whole = call.args[0] if len(call.args) == 1 and isinstance(call.args[0], Mapping) else None
    try:
        yield
    except (TypeError, AttributeError, LookupError) as error:
        if not whole:
            raise
        takes, said = ", ".join(inspect.signature(module.forward).parameters), shorten(str(error), 200)
        raise RefusalError(
            f"{type(module).__name__}.forward({takes}) was given the whole batch, a dict of {', '.join(map(str, whole))}, whose keys are "
            f"not the names of its arguments, and failed ({type(error).__name__}: {said}): name the entry, such as "
            f"input_key={next(iter(whole))!r}."
        ) from error


def public_calls(
    module: nn.Module,
    public: PublicSamples,
    rows: Sequence[int] | np.ndarray,
    batch_size: int,
    runtime: Runtime,
    input_key: Keys | None = None,
) -> Iterator[Call]:
    """Yields the calls of a module's forward for batches of public samples, see `public_batches`."""
    batches = public_batches(public, rows, batch_size, runtime, input_key)
    return (call_of(module, batch, input_key) for batch in batches)


def public_batches(
    public: PublicSamples,
    rows: Sequence[int] | np.ndarray,
    batch_size: int,
    runtime: Runtime,
    input_key: Keys | None = None,
) -> Iterator[Any]:
    """Yields batches of public samples on the module's device, without labels unless `input_key` is given.

    Raises:
        ValueError: If the public data give inputs alone, but `input_key` names entries.
    """
    whole = getattr(public, "whole", None)
    if whole is None and input_key is not None:
        raise ValueError(
            f"input_key={input_key!r}: these public data give inputs alone; give {type(public).__name__} a method "
            "whole(rows, batch_size) that gives batches as they are."
        )
    for given in (whole or public.batches)(rows, batch_size):
        batch = runtime.on_device(given)
        if isinstance(batch, Mapping) and input_key is None:
            batch = {name: value for name, value in batch.items() if name not in LABELS}
        yield batch
