"""Batches of several clients as one, where their shapes allow it."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten


def stacks(batches: Sequence[Any]) -> Iterator[tuple[list[int], Any]]:
    """Stacks batches whose tensors have the same shapes.

    Args:
        batches: One of each client: tensors, or tuples, lists and dicts of tensors.

    Yields:
        The places of the batches of one shape, and these batches as one, each tensor `(R, ...)`.

    Raises:
        TypeError: For something else than tensors.

    Example:
        >>> for rows, x in stacks([torch.zeros(4, 2), torch.zeros(3, 2), torch.zeros(4, 2)]):
        ...     print(rows, tuple(x.shape))
        [0, 2] (2, 4, 2)
        [1] (1, 3, 2)
    """
    alike: dict[Any, list[int]] = {}
    leaves: list[list[Tensor]] = []
    trees: list[Any] = []  # of each batch, or its type
    for place, batch in enumerate(batches):
        # most batches are plain, and flattening a tree costs more than all the rest here
        plain = type(batch) in (tuple, list) and all(isinstance(part, Tensor) for part in batch)
        flat, tree = (list(batch), type(batch)) if plain else tree_flatten(batch)
        if not all(isinstance(leaf, Tensor) for leaf in flat):
            wrong = next(leaf for leaf in flat if not isinstance(leaf, Tensor))
            raise TypeError(f"a batch holds a {type(wrong).__name__}, and only tensors can be stacked")
        key = (str(tree), *((leaf.shape, leaf.dtype) for leaf in flat))
        alike.setdefault(key, []).append(place)
        leaves.append(flat)
        trees.append(tree)
    for rows in alike.values():
        columns = zip(*(leaves[row] for row in rows), strict=True)
        tree, stacked = trees[rows[0]], [torch.stack(column) for column in columns]
        yield rows, tree(stacked) if tree in (tuple, list) else tree_unflatten(stacked, tree)
