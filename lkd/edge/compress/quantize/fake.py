"""Simulated int8 during training: weights and inputs of layers are rounded as they will be in the file."""

import contextlib
from collections.abc import Iterator, Mapping
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Range = tuple[float, float]
RANGE = "_int8_range"


@contextlib.contextmanager
def fake_int8(module: nn.Module, ranges: Mapping[str, Range]) -> Iterator[list[str]]:
    """Rounds inputs and weights of layers in every forward inside the block; gradients ignore the rounding.

    Weights are signed, with a scale for each output channel. Batch norms that follow only scale those
    channels, so the rounding is the same as in the file, where they are folded into the weights. The inputs'
    ranges are fixed. Parameters and state dict stay as they are.

    Args:
        module: Module that holds the layers.
        ranges: Ranges of the inputs of its `Conv2d` and `Linear` layers, by their names, or by ends of names
            that are the same in several copies of a network.

    Yields:
        Names of the layers.

    Raises:
        ValueError: If a name belongs to no such layer.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 1, bias=False))
        >>> _ = net[0].weight.data.fill_(1.0)
        >>> with torch.no_grad(), fake_int8(net, {"0": (0.0, 255.0)}):
        ...     float(net(torch.tensor([[3.4]])))
        3.0
    """
    found: dict[str, nn.Conv2d | nn.Linear] = {}
    for name, interval in ranges.items():
        ends = {
            place: layer
            for place, layer in module.named_modules()
            if isinstance(layer, nn.Conv2d | nn.Linear) and f".{place}".endswith(f".{name}")
        }
        # "conv" is the network's own, in each copy, and not the one in its "block.conv"
        highest = min((place.count(".") for place in ends), default=0)
        here = {place: layer for place, layer in ends.items() if place.count(".") == highest}
        if not here:
            raise ValueError(
                f"{name!r} is no Conv2d or Linear layer of this module: it cannot be trained for int8."
            )
        for place, layer in here.items():
            vars(layer)[RANGE] = interval
            found[place] = layer
    for layer in found.values():  # a bound method, so that a deep copy trains the copy
        vars(layer)["forward"] = MethodType(_conv if isinstance(layer, nn.Conv2d) else _linear, layer)
    try:
        yield list(found)
    finally:
        for layer in found.values():
            del vars(layer)["forward"], vars(layer)[RANGE]


def _conv(layer: nn.Conv2d, x: Tensor) -> Tensor:
    return layer._conv_forward(_input(layer, x), _weight(layer.weight), layer.bias)


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(_input(layer, x), _weight(layer.weight), layer.bias)


def _input(layer: nn.Module, x: Tensor) -> Tensor:
    """Rounds inputs to unsigned eight bits in the layer's range, which holds 0."""
    low, high = vars(layer)[RANGE]
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / 255, 1e-12)
    zero = max(0, min(255, round(-low / scale)))
    return torch.fake_quantize_per_tensor_affine(x.float(), scale, zero, 0, 255).to(x.dtype)


def _weight(weight: Tensor) -> Tensor:
    """Rounds weights to signed eight bits, each output channel by itself."""
    wide = weight.float()
    scale = wide.detach().flatten(1).abs().amax(1).clamp(min=1e-12) / 127
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(wide, scale, zero, 0, -127, 127).to(weight.dtype)
