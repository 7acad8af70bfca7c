"""How a message shows what a user gave: never a whole module, tensor or list."""

from typing import Any

from torch import Tensor, nn


def shown(value: Any) -> str:
    """A name, number or text as it is, and what else fits on part of a line; of modules and the like their class.

    Args:
        value: Anything.

    Example:
        >>> from torch import nn
        >>> shown("krum"), shown(nn.Linear), shown(nn.Linear(2, 2))
        ("'krum'", 'Linear', 'Linear(...)')
    """
    if isinstance(value, type):
        return value.__name__
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    if (inside := getattr(value, "_orig_mod", None)) is not None:
        return f"torch.compile({shown(inside)})"
    text = repr(value)
    short = len(text) <= 60 and "\n" not in text and " object at 0x" not in text
    return text if short and not isinstance(value, nn.Module | Tensor) else f"{type(value).__name__}(...)"
