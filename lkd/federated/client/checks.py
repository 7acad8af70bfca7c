"""Checks of what an algorithm's client half gives."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lkd.federated.protocol.tensors import Lists


def check_lists(lists: Any, what: str, params: Sequence[Tensor], shapes: bool) -> Lists:
    """Checks lists of tensors that an algorithm's client half returns or keeps.

    Args:
        lists: The lists by name; None stands for none.
        what: Where they are from, such as `"SCAFFOLD.finish"`, for the message.
        params: The tensors that every list has to be aligned with.
        shapes: Whether the shapes have to be the same too, as the server's means need it.

    Returns:
        The lists; empty for None.

    Raises:
        ValueError: If they are not a dict of aligned lists of tensors.
    """
    if lists is None:
        return {}
    wrong = "" if isinstance(lists, dict) else f"is a {type(lists).__name__}"
    for name, tensors in lists.items() if not wrong else ():
        if not isinstance(tensors, list | tuple) or not all(isinstance(t, Tensor) for t in tensors):
            wrong = f"has a {type(tensors).__name__} as {name!r}"
        elif len(tensors) != len(params):
            wrong = f"has {len(tensors)} tensors as {name!r}, not {len(params)}"
        elif shapes and any(t.shape != p.shape for t, p in zip(tensors, params, strict=True)):
            wrong = f"has other shapes in {name!r} than context.params"
    if wrong:
        raise ValueError(
            f"{what} {wrong}; it must be a dict of lists of tensors, each list aligned with context.params."
        )
    return lists
