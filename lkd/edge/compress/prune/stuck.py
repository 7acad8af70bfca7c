"""Layers that cannot be made narrower: their weights are computed from others, or are those of others, too."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

ERRORS = (RuntimeError, AttributeError, KeyError, IndexError, TypeError, ValueError)
"""Errors of torch-pruning where it does not understand a layer."""


@dataclass(frozen=True)
class Stuck:
    """Layers that stay as wide as they are.

    Attributes:
        layers: The layers by their names; several share one tensor.
        why: What about them cannot be made narrower.
    """

    layers: dict[str, nn.Module]
    why: str

    def refused(self) -> ValueError:
        """Returns the error for a group of channels that runs through these layers."""
        names = list(self.layers)
        which = f"layer {names[0]!r}" if len(names) == 1 else f"layers {', '.join(map(repr, names))}"
        return ValueError(
            f"the channels of {which} cannot be removed, since {self.why}: leave as they are by ignore={names}."
        )


def stuck(network: nn.Module) -> dict[Any, Stuck]:
    """Returns the layers and parameters of a network that cannot be made narrower, and why.

    Args:
        network: The network.
    """
    found = dict[Any, Stuck]()
    for name, layer in network.named_modules():
        if _is_computed(layer):
            found[layer] = Stuck({name: layer}, "its weight is computed anew from other tensors")
    for one, layers in _shared(network):
        both = Stuck(layers, "they share one weight")
        found[one] = both
        for layer in layers.values():
            found.setdefault(layer, both)
    return found


def _is_computed(layer: nn.Module) -> bool:
    """Returns whether a layer is parametrized, in torch's way or that of `torch.nn.utils.weight_norm`."""
    return is_parametrized(layer) or isinstance(vars(layer).get("weight"), Tensor)


def _shared(network: nn.Module) -> Iterator[tuple[nn.Parameter, dict[str, nn.Module]]]:
    """Yields parameters that several layers have, with these layers."""
    owners = dict[nn.Parameter, dict[str, nn.Module]]()
    for name, layer in network.named_modules():
        for parameter in layer._parameters.values():
            if parameter is not None:
                owners.setdefault(parameter, {})[name] = layer
    yield from ((one, layers) for one, layers in owners.items() if len(layers) > 1)
