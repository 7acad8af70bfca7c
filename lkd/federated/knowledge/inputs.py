"""What a module's forward is given of a batch."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule
from torch import nn

from lkd.federated.client import Public
from lkd.federated.knowledge.labels import LABELS, entry
from lkd.federated.loop import LocalLoop
from lkd.taps import Call

Keys = str | int | list[str | int]
"""Entries of a batch: keys of a dict, places in a tuple, attributes of anything else."""


def inputs_of(batch: Any) -> Any:
    """The x of a pair (x, y), or the whole of a batch, for modules that are given the modalities of a sample as a dict.

    Example:
        >>> inputs_of((1, 2)), inputs_of({"images": 3})
        (1, {'images': 3})
    """
    return batch[0] if isinstance(batch, list | tuple) else batch


def call_of(module: nn.Module, batch: Any, input_key: Keys | None = None, label_key: str | int = 1) -> Call:
    """What a module's forward is called with for a batch.

    Without `input_key` that is the x of a pair (x, y), or of (y, x) where `label_key` is 0. A dict, as batch or as x, is
    passed by name where forward has arguments of the names of its entries, and else as it is; a tuple of inputs as x is
    passed one by one where forward takes several. So is the entry that `input_key` names.

    Args:
        module: Whose forward it is.
        batch: The batch, where the module is.
        input_key: The entry that is the input, x; of several, each goes to the argument of its name where forward has
            arguments of all these names, else they go in this order.
        label_key: Entry of the labels.

    Raises:
        ValueError: If the batch has no such entry, if it does not tell what forward's arguments are to be, or if the module
            has no forward.

    Example:
        >>> class Net(nn.Module):
        ...     def forward(self, ids, mask): ...
        >>> call_of(Net(), {"ids": 1, "mask": 2, "labels": 3}).kwargs
        {'ids': 1, 'mask': 2}
        >>> call_of(Net(), (1, 2, 3), input_key=[0, 1]).args
        (1, 2)
    """
    takes, needs = _arguments(module)
    if isinstance(input_key, list | tuple):
        values = {key: entry(batch, key, "input_key") for key in input_key}
        if all(key in takes for key in input_key):
            return Call((), {str(key): value for key, value in values.items()})
        return Call(tuple(values.values()), {})
    x = batch
    if input_key is not None:
        x = entry(batch, input_key, "input_key")
    elif isinstance(batch, list | tuple) and batch:
        if len(batch) > 2 and len(takes) > 1:
            raise _unclear(module, takes, f"a batch of {len(batch)} entries", list(range(len(takes))))
        x = batch[1 if label_key == 0 and len(batch) > 1 else 0]
    if isinstance(x, Mapping):
        named = {name: x[name] for name in takes if name in x}
        if takes == ["**"]:
            return Call(
                (), {str(name): value for name, value in x.items() if name not in (*LABELS, label_key)}
            )
        if named and all(name in named for name in needs):
            return Call((), named)
    if len(needs) > 1:
        if isinstance(x, list | tuple) and len(x) >= len(needs):
            return Call(tuple(x), {})
        has = f"a dict of {', '.join(map(str, x))}" if isinstance(x, Mapping) else f"a {type(x).__name__}"
        keys = list(x)[: len(needs)] if isinstance(x, Mapping) else list(range(len(needs)))
        raise _unclear(module, takes, has, keys)
    return Call((x,), {})


def run(module: nn.Module, call: Call) -> Any:
    """What a module gives for it."""
    return module(*call.args, **call.kwargs)


def public_calls(
    module: nn.Module,
    public: Public,
    rows: Sequence[int] | np.ndarray,
    batch_size: int,
    loop: LocalLoop,
    input_key: Keys | None = None,
) -> Iterator[Call]:
    """`call_of` for batches of public samples, see `public_batches`."""
    batches = public_batches(public, rows, batch_size, loop, input_key)
    return (call_of(module, batch, input_key) for batch in batches)


def public_batches(
    public: Public,
    rows: Sequence[int] | np.ndarray,
    batch_size: int,
    loop: LocalLoop,
    input_key: Keys | None = None,
) -> Iterator[Any]:
    """Batches of public samples where the module is, without their labels unless it is told what are the inputs.

    Raises:
        ValueError: If the public data give their inputs alone, and `input_key` names some.
    """
    whole = getattr(public, "whole", None)
    if whole is None and input_key is not None:
        raise ValueError(
            f"input_key={input_key!r}: these public data give inputs alone; give {type(public).__name__} a method "
            "whole(rows, batch_size) that gives batches as they are."
        )
    for given in (whole or public.batches)(rows, batch_size):
        batch = loop.on_device(given)
        if isinstance(batch, Mapping) and input_key is None:
            batch = {name: value for name, value in batch.items() if name not in LABELS}
        yield batch


def _arguments(module: nn.Module) -> tuple[list[str], list[str]]:
    """Names of what a forward takes of inputs, and of what it cannot do without; `["**"]` for any name and nothing else."""
    if type(module).forward in (LightningModule.forward, nn.Module.forward) and "forward" not in vars(module):
        raise ValueError(
            f"{type(module).__name__} has no forward, which this algorithm calls on inputs: give it one, such as "
            "def forward(self, x): return self.network(x)."
        )
    given = inspect.signature(module.forward).parameters.values()
    named = [p for p in given if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not named and any(p.kind is p.VAR_KEYWORD for p in given) and len(given) == 1:
        return ["**"], []
    # what has another default than None is an option, and no input
    takes = [p.name for p in named if p.default is p.empty or p.default is None]
    return takes, [p.name for p in named if p.default is p.empty]


def _unclear(module: nn.Module, takes: list[str], has: str, keys: list[Any]) -> ValueError:
    return ValueError(
        f"{type(module).__name__}.forward takes {', '.join(takes)}, and {has} does not say which of its entries these are: "
        f"name them, such as input_key={keys}."
    )
