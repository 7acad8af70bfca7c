"""The server's model of a federation, for code that must not import federations."""

from typing import Any


def is_federation(module: Any) -> bool:
    """Returns whether a module is a federation, by more than the common attribute `model`.

    Example:
        >>> from lightning.pytorch import LightningModule
        >>> is_federation(LightningModule())
        False
    """
    return hasattr(module, "other_models")


def server_model(module: Any) -> Any:
    """Returns the server's model of a federation, or the module itself if it is none.

    Args:
        module: A LightningModule.

    Example:
        >>> from lightning.pytorch import LightningModule
        >>> module = LightningModule()
        >>> server_model(module) is module
        True
    """
    return module.model if is_federation(module) else module
