"""Outputs of layers in the form of losses: a tensor for each address, with channels in the usual place."""

from typing import Any

from torch import Tensor, nn

from lkd.addresses import described, parse
from lkd.distillation.layouts import canonical, layout_of
from lkd.losses import Term


def compared(
    model: nn.Module | None,
    address: str,
    value: Any,
    argument: str,
    term: Term,
    layouts: dict[tuple[str, str], str | None],
) -> tuple[Any, list[str]]:
    """Checks one output and moves its channels to the place where losses look for them.

    Args:
        model: The model that gave it; None for one whose layouts are not looked up.
        address: The layer.
        value: What the layer gave.
        argument: The name of the user's argument, for error messages.
        term: The loss that will take it.
        layouts: Layouts found so far, which stay as they were first found.

    Returns:
        What the loss takes, and the addresses of sequences whose channels could not be found.

    Raises:
        ValueError: If the output is no tensor though the loss takes nothing else, or if the channels of a map
            could not be found.

    Example:
        >>> import torch
        >>> from lkd.losses import KD
        >>> compared(None, "head", (torch.zeros(2, 3), torch.zeros(2, 8)), "student_layer", KD(), {})
        Traceback (most recent call last):
        ...
        ValueError: student_layer='head' gives a tuple of a tensor (2, 3), a tensor (2, 8), and KD compares tensors: name the
        entry to compare, as in 'head:0'.
    """
    if term.raw:
        return value, []
    if parse(address, argument).keys[-1:] == ("*",):
        if not isinstance(value, list):
            raise ValueError(f"{argument}={address!r}: the output is no list, it is {described(value)}.")
        inner = address.removesuffix(":*")
        levels = [
            compared(model, f"{inner}:{number}", one, argument, term, layouts)
            for number, one in enumerate(value)
        ]
        return [level for level, _ in levels], [name for _, names in levels for name in names]
    if not isinstance(value, Tensor):
        key = next(iter(value), "key") if isinstance(value, dict) else 0
        raise ValueError(
            f"{argument}={address!r} gives {described(value)}, and {type(term).__name__} compares tensors: name the entry to "
            f"compare, as in '{address}:{key}'."
        )
    if model is None:
        return value, []
    place = (argument, address)
    if place not in layouts:
        layouts[place] = layout_of(model, address, value, argument)
    layout = layouts[place]
    if layout is None and value.dim() == 4:
        raise ValueError(
            f"{argument}={address!r} gives maps {tuple(value.shape)}, of which nothing tells where the channels are; say it behind "
            f"the address: '{address}@NCHW' or '{address}@NHWC'."
        )
    unknown = layout is None and value.dim() == 3
    return canonical(value, layout), [f"{argument}={address!r}"] if unknown else []
