"""Callable arguments of a module that the command line made, shared by deep copies of the module."""

import functools
from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningModule


class SharedCallable:
    """A callable argument (an optimizer's, say) that deep copies of its module share.

    The parser's own partials hold the whole CLI, and with it the trainer. Averaging and distillation copy
    modules, and such a copy would copy all that.

    Args:
        function: The callable.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function."""
        return self.function(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharedCallable":
        """Returns itself."""
        return self


def share_callables(model: LightningModule) -> None:
    """Makes deep copies of a module that a parser made share the contents of its callable arguments."""
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, functools.partial):
                setattr(module, name, SharedCallable(value))
