"""What of a batch a network is given: named entries, or the first one."""

import inspect
from collections.abc import Sequence
from typing import Any

from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from lkd.taps import Call

Key = str | int
"""Key of a dict batch, or index of a tuple."""


def entry(batch: Any, key: Key) -> Any:
    """What a batch has under a key or index.

    Raises:
        ValueError: If it has none; the message names those that it has.

    Example:
        >>> entry({"image": 1, "label": 2}, "label"), entry(("image", "label"), 0)
        (2, 'image')
    """
    try:
        return batch[key]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        keys = list(batch) if hasattr(batch, "keys") else f"a {type(batch).__name__}"
        if isinstance(batch, list | tuple):
            keys = f"a {type(batch).__name__} of {len(batch)} entries"
        raise ValueError(f"the batch has no {key!r}, it is or has {keys}.") from error


def named(batch: Any, keys: Key | Sequence[Key], network: nn.Module) -> Call:
    """A call of a network with entries of a batch.

    Args:
        batch: The batch.
        keys: One key, for the only argument; or several, which are given by name where the network's forward has
            parameters of these names, and else one after the other.
        network: Whose forward is called.

    Raises:
        ValueError: If the batch has no such entry.

    Example:
        >>> named({"a": 1, "b": 2}, ["b", "a"], nn.Bilinear(1, 1, 1))
        Call(args=(2, 1), kwargs={})
    """
    if isinstance(keys, str | int):
        return Call((entry(batch, keys),), {})
    given = {key: entry(batch, key) for key in keys}
    parameters = inspect.signature(network.forward).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if all(isinstance(key, str) and (key in parameters or takes_any) for key in keys):
        return Call((), {str(key): value for key, value in given.items()})
    return Call(tuple(given.values()), {})


def first(batch: Any, network: nn.Module) -> Call:
    """A call of a network with a batch that says nothing of itself: a tensor, or a tuple that begins with the input.

    Args:
        batch: The batch.
        network: Whose forward is called.

    Raises:
        ValueError: If the batch is a dict, if its first entry looks like labels, or the forward wants more of it.

    Example:
        >>> import torch
        >>> first((torch.zeros(2, 3), torch.zeros(2, dtype=torch.long)), nn.Linear(3, 1)).args[0].shape
        torch.Size([2, 3])
    """
    if hasattr(batch, "keys"):
        raise ValueError(
            f"input_key=None: with alpha=0 and a dict as batch, name its images, one of {list(batch.keys())}."
        )
    call = Call((batch[0] if isinstance(batch, list | tuple) else batch,), {})
    if isinstance(batch, list | tuple) and _are_labels(batch):
        raise ValueError(
            f"input_key=None: the batch begins with integers {tuple(batch[0].shape)}, which look like labels; name the entry "
            "that holds the inputs, such as input_key=1."
        )
    try:
        inspect.signature(network.forward).bind(*call.args)
    except TypeError as error:
        raise ValueError(
            f"input_key=None: the forward of {type(network).__name__} takes more than the batch's first entry ({error}); name the "
            "entries that it takes, such as input_key=[0, 1]."
        ) from error
    return call


def _are_labels(batch: Sequence[Any]) -> bool:
    head, *rest = batch
    return (
        isinstance(head, Tensor)
        and head.ndim <= 1
        and not head.is_floating_point()
        and any(isinstance(other, Tensor) and other.ndim > 1 for other in rest)
    )


def size(batch: Any) -> int:
    """The number of samples: the length of the first tensor that has one, or else 1.

    Example:
        >>> import torch
        >>> size({"scale": torch.tensor(1.0), "images": torch.zeros(8, 3)})
        8
    """
    found: list[int] = []
    apply_to_collection(batch, Tensor, lambda t: found.append(len(t)) if t.ndim else None)
    return found[0] if found else 1
