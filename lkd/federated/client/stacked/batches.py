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
    trees: list[Any] = []
    for place, batch in enumerate(batches):
        flat, tree = tree_flatten(batch)
        if not all(isinstance(leaf, Tensor) for leaf in flat):
            wrong = next(leaf for leaf in flat if not isinstance(leaf, Tensor))
            raise TypeError(f"a batch holds a {type(wrong).__name__}, and only tensors can be stacked")
        key = tuple((leaf.shape, leaf.dtype) for leaf in flat)
        alike.setdefault(key, []).append(place)
        leaves.append(flat)
        trees.append(tree)
    for rows in alike.values():
        columns = zip(*(leaves[row] for row in rows), strict=True)
        yield rows, tree_unflatten([torch.stack(column) for column in columns], trees[rows[0]])
