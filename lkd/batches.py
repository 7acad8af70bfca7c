"""The inputs of a network's forward, found in batches of any form."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lkd.nested import tensors
from lkd.taps import Call

Keys = str | int | list[str | int]
"""Entries of a batch: keys of a dict, places in a tuple, attributes of anything else."""

LABELS = ("label", "labels", "target", "targets", "y", "class")
"""Names of labels in batches, samples and columns, the likeliest first."""


def call_of(
    module: nn.Module,
    batch: Any,
    input_key: Keys | None = None,
    label_key: str | int = 1,
    argument: str = "input_key",
) -> Call:
    """Returns the arguments that a module's forward is called with for a batch.

    Without `input_key` that is the x of a pair (x, y), or of (y, x) if `label_key` is 0. A dict, as batch or
    as x, is passed by name if forward has arguments with the names of its entries, and else as it is. A tuple
    of inputs as x is passed one by one if forward takes several. The entry that `input_key` names is passed
    in the same ways.

    Args:
        module: Module whose forward is called.
        batch: The batch, on the module's device.
        input_key: The entry that is the input, x. Several entries go to the arguments of their names if
            forward has arguments of all these names, else they go in this order.
        label_key: Key or index of the labels.
        argument: The user's name of `input_key`, for messages.

    Raises:
        ValueError: If the batch has no such entry, if it does not show forward's arguments, or if the module
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
        values = {key: entry(batch, key, argument) for key in input_key}
        if all(key in takes for key in input_key):
            return Call((), {str(key): value for key, value in values.items()})
        return Call(tuple(values.values()), {})
    x = batch
    if input_key is not None:
        x = entry(batch, input_key, argument)
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


def entry(batch: Any, key: str | int, argument: str, why: str = "") -> Any:
    """Returns an entry of a batch.

    Args:
        batch: A dict, tuple, or object with attributes.
        key: Key or index of the entry.
        argument: The user's argument, for the message.
        why: Purpose of the entry, for the message.

    Raises:
        ValueError: If there is no such entry; the message lists those that exist.
    """
    try:
        if isinstance(key, str) and not isinstance(batch, Mapping):
            return getattr(batch, key)
        if isinstance(batch, Tensor):
            raise TypeError
        return batch[key]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        has = (
            f"a dict of {', '.join(map(repr, batch))}" if isinstance(batch, Mapping) else type(batch).__name__
        )
        many = f" of {len(batch)}" if isinstance(batch, list | tuple) else ""
        raise ValueError(
            f"{argument}={key!r}: the batch has no such entry, it is {has}{many}{why}."
        ) from error


def begins_with_labels(batch: Sequence[Any]) -> bool:
    """Returns whether a tuple begins with class numbers or one-hot classes, before what looks like inputs.

    Example:
        >>> import torch
        >>> begins_with_labels((torch.tensor([1, 2]), torch.zeros(2, 3)))
        True
        >>> begins_with_labels((torch.eye(3)[:2], torch.rand(2, 3, 8, 8)))  # one-hot
        True
    """
    head, *rest = batch
    others = [other for other in rest if isinstance(other, Tensor)]
    if not isinstance(head, Tensor) or head.ndim > 2:
        return False
    if head.ndim <= 1 and not head.is_floating_point():
        return any(other.ndim > 1 for other in others)
    larger = [other for other in others if other.is_floating_point() and other.ndim > max(head.ndim, 1)]
    beside = [other for other in others if other.is_floating_point() and other.ndim == head.ndim == 2]
    if not (larger or beside) or not _flags(head):
        return False
    one_hot = head.ndim == 2 and bool((head.sum(1) == 1).all())
    return bool(larger) or (one_hot and not any(_flags(other) for other in beside))


def _flags(tensor: Tensor) -> bool:
    """Returns whether a tensor is all zeros and ones."""
    return bool(((tensor == 0) | (tensor == 1)).all())


def size(batch: Any) -> int:
    """Returns the number of samples: the length of the first tensor that has one, or else 1.

    Example:
        >>> import torch
        >>> size({"scale": torch.tensor(1.0), "images": torch.zeros(8, 3)})
        8
    """
    return next((len(tensor) for tensor in tensors(batch) if tensor.ndim), 1)


def _arguments(module: nn.Module) -> tuple[list[str], list[str]]:
    """Returns names of forward's inputs, and of its required ones; `["**"]` for any name and nothing else."""
    if type(module).forward in (LightningModule.forward, nn.Module.forward) and "forward" not in vars(module):
        raise ValueError(
            f"{type(module).__name__} has no forward, which this algorithm calls on inputs: give it one, such as "
            "def forward(self, x): return self.network(x)."
        )
    given = inspect.signature(module.forward).parameters.values()
    named = [p for p in given if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not named and any(p.kind is p.VAR_KEYWORD for p in given) and len(given) == 1:
        return ["**"], []
    # an argument with a default other than None is an option, and no input
    takes = [p.name for p in named if p.default is p.empty or p.default is None]
    return takes, [p.name for p in named if p.default is p.empty]


def _unclear(module: nn.Module, takes: list[str], has: str, keys: list[Any]) -> ValueError:
    return ValueError(
        f"{type(module).__name__}.forward takes {', '.join(takes)}, and {has} does not say which of its entries these are: "
        f"name them, such as input_key={keys}."
    )
