"""Entries of a batch by name or place, and which of them are the labels."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lkd.batches import LABELS, entry


def labels_of(batch: Any, key: str | int) -> Tensor:
    """Returns the labels `(B,)` of a batch, as class numbers.

    In a dict with a single entry of a usual name for labels, the default key 1 finds it.

    Args:
        batch: A batch.
        key: Key or index of the labels.

    Raises:
        ValueError: If there is nothing under that key, or it holds no class numbers.

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
