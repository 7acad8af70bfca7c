"""Entries of a batch by name or place, and which of them are the labels."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

LABELS = ("labels", "label", "targets", "target")
"""What dicts call their labels."""


def labels_of(batch: Any, key: str | int) -> Tensor:
    """The labels `(B,)` of a batch, class numbers; of a dict by themselves where it calls them so.

    Raises:
        ValueError: If it has none under that key, or they are no class numbers.

    Example:
        >>> import torch
        >>> labels_of((torch.zeros(2, 3), torch.tensor([0, 1])), 1)
        tensor([0, 1])
    """
    if isinstance(batch, Mapping) and key not in batch:
        called = [name for name in LABELS if name in batch]
        key = called[0] if key == 1 and len(called) == 1 else key
    labels = entry(batch, key, "label_key", ", and this algorithm needs labels")
    if isinstance(labels, Tensor) and labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.is_floating_point():
        what = (
            f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        )
        raise ValueError(
            f"label_key={key!r} of the batch is a {what}, and this algorithm needs class numbers (B,): name the labels, or let "
            "the data give them so."
        )
    return labels


def entry(batch: Any, key: str | int, argument: str, why: str = "") -> Any:
    """An entry of a batch.

    Args:
        batch: A dict, tuple, or object with attributes.
        key: Which.
        argument: The user's argument, for the message.
        why: What it is for, for the message.

    Raises:
        ValueError: If there is no such entry; the message names those that there are.
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
