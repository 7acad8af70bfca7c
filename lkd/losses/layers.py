"""Layers of adapters, whose initial weights come from a generator and never from the global random state."""

import math
from typing import TypeVar

import torch
from torch import nn

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def conv2d(
    in_channels: int,
    out_channels: int,
    generator: torch.Generator,
    kernel_size: int = 1,
    bias: bool = True,
    slope: float = math.sqrt(5),
) -> nn.Conv2d:
    """Builds a convolution of stride 1 that keeps the size of a map; its bias starts at 0.

    Args:
        in_channels: Channels it takes.
        out_channels: Channels it gives.
        generator: Random generator of the initial weights.
        kernel_size: Side of the kernel, odd.
        bias: Whether it has a bias.
        slope: `a` of `nn.init.kaiming_uniform_`; the default is that of torch's own layers.

    Example:
        >>> conv2d(4, 6, torch.Generator().manual_seed(0), kernel_size=3)
        Conv2d(4, 6, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """
    layer = nn.utils.skip_init(
        nn.Conv2d, in_channels, out_channels, kernel_size=kernel_size, padding=kernel_size // 2, bias=bias
    )
    return _initialize(layer, generator, slope)


def linear(in_features: int, out_features: int, generator: torch.Generator, bias: bool = True) -> nn.Linear:
    """Builds a linear layer; its bias starts at 0.

    Args:
        in_features: Numbers it takes.
        out_features: Numbers it gives.
        generator: Random generator of the initial weights.
        bias: Whether it has a bias.

    Example:
        >>> linear(4, 6, torch.Generator().manual_seed(0))
        Linear(in_features=4, out_features=6, bias=True)
    """
    return _initialize(
        nn.utils.skip_init(nn.Linear, in_features, out_features, bias=bias), generator, math.sqrt(5)
    )


def _initialize(layer: Layer, generator: torch.Generator, slope: float) -> Layer:
    nn.init.kaiming_uniform_(layer.weight, a=slope, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
