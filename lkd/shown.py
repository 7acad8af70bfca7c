"""Short forms of a user's values for messages: never a whole module, tensor or list."""

from typing import Any

from torch import Tensor, nn


def shown(value: Any) -> str:
    """Returns a name, number, text or other short value as it is, and for modules and the like their class.

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
    if isinstance(value, list | tuple | dict | set) and not _plain(value):
        return f"{type(value).__name__}(...)"
    text = repr(value)
    short = len(text) <= 60 and "\n" not in text and " object at 0x" not in text
    return text if short and not isinstance(value, nn.Module | Tensor) else f"{type(value).__name__}(...)"


def _plain(value: Any) -> bool:
    """Returns whether a collection holds only names, numbers and the like."""
    if isinstance(value, dict):
        return all(_plain(key) and _plain(inner) for key, inner in value.items())
    if isinstance(value, list | tuple | set):
        return all(_plain(inner) for inner in value)
    return value is None or isinstance(value, str | int | float)
