"""The server's model of a federation, for code that must not import federations and knows them by what they have."""

from typing import Any


def is_federation(module: Any) -> bool:
    """Whether a module is a federation; a name as common as `model` would not tell.

    Example:
        >>> from lightning.pytorch import LightningModule
        >>> is_federation(LightningModule())
        False
    """
    return hasattr(module, "other_models")


def server_model(module: Any) -> Any:
    """The server's model of a federation; any other module is its own.

    Args:
        module: A LightningModule.

    Example:
        >>> from lightning.pytorch import LightningModule
        >>> module = LightningModule()
        >>> server_model(module) is module
        True
    """
    return module.model if is_federation(module) else module
