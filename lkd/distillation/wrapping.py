"""Wrapped methods of a module, such that copies of the module run their own."""

import functools
import types
from collections.abc import Callable
from typing import Any

from torch import nn

Method = Callable[..., Any]


def wrap(module: nn.Module, name: str, wrapper: Method) -> tuple[Method, Callable[[], None]]:
    """Puts a wrapper around a method of a module.

    Args:
        module: The module.
        name: The method.
        wrapper: Function that is called with the module, the method as a function of the module, and the
            arguments.

    Returns:
        The method as a function of the module, and a function that removes the wrapper.

    Example:
        >>> net = nn.Identity()
        >>> _, undo = wrap(net, "forward", lambda module, inner, x: 2 * inner(module, x))
        >>> net(3)
        6
        >>> undo()
        >>> net(3)
        3
    """
    before = module.__dict__.get(name)
    bound = getattr(module, name)
    # A deep copy of the module must run its own step, hence the function and not the bound method.
    inner: Method = getattr(bound, "__func__", None) or (lambda _, *args, **kwargs: bound(*args, **kwargs))

    @functools.wraps(inner)  # Lightning reads the user's signature to decide what to pass
    def method(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return wrapper(self, inner, *args, **kwargs)

    setattr(module, name, types.MethodType(method, module))
    return inner, lambda: setattr(module, name, before) if before else delattr(module, name)
