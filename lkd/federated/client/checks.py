"""Checks of what an algorithm's client half gives, and of what it is given."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lkd.federated.protocol.messages import RefusalError
from lkd.federated.protocol.tensors import Lists


def require_descent(who: str, optimizer: torch.optim.Optimizer) -> None:
    """Refuses an optimizer that climbs, where more than the module's own loss is minimized.

    Args:
        who: What assumes that steps go down, for the message.
        optimizer: The clients' optimizer.

    Raises:
        RefusalError: If one of its groups has `maximize=True`.
    """
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise RefusalError(
            f"{who} takes steps that go down to be right, and {type(optimizer).__name__}(maximize=True) goes up: leave maximize "
            "False, and return the loss with the other sign from training_step."
        )


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
