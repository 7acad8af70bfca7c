"""Networks of timm by their names; timm is imported with the first one, since that takes a second."""

import difflib
from typing import Any

from torch import nn


def timm_network(argument: str, name: str, **options: Any) -> nn.Module:
    """Makes a network of timm with random weights.

    Args:
        argument: The user's argument that holds the name, for the message.
        name: Name of the network.
        **options: What `timm.create_model` takes.

    Raises:
        ValueError: For an unknown name; the message has similar ones.

    Example:
        >>> type(timm_network("network", "test_resnet", num_classes=10)).__name__
        'ResNet'
    """
    import timm

    check_timm_name(argument, name)
    made: nn.Module = timm.create_model(name, **options)
    return made


def check_timm_name(argument: str, name: str) -> None:
    """Refuses a name that timm does not have.

    Args:
        argument: The user's argument that holds it, for the message.
        name: The name.

    Raises:
        ValueError: If it is unknown; the message has similar ones.

    Example:
        >>> check_timm_name("network", "test_resnett")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: network='test_resnett' is no timm model; near ones: test_resnet, ...
    """
    import timm

    if not timm.is_model(name):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models())) or "see timm.list_models()"
        raise ValueError(f"{argument}={name!r} is no timm model; near ones: {near}.")
