"""A small encoder of sensor windows."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class SensorEncoder(nn.Module):
    """Convolutions along time, each with group normalization, ReLU and a stride of 2.

    The output is their mean over time.

    It keeps no batch statistics, so it can be averaged over clients as it is, and be given a single sample.

    Args:
        in_channels: Channels of the window, such as 3 axes.
        channels: Channels of every convolution; the last is the number of features. Default 32, 64 and 64.
        kernel: Number of steps that a convolution sees, odd.
        groups: Groups of the normalization; the number must divide all channels.

    Raises:
        ValueError: For an even kernel, or groups that do not divide.

    Example:
        >>> import torch
        >>> SensorEncoder(3)(torch.zeros(2, 3, 100)).shape
        torch.Size([2, 64])
    """

    def __init__(
        self, in_channels: int, channels: Sequence[int] = (32, 64, 64), kernel: int = 5, groups: int = 8
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd, so that it has a middle.")
        if not channels or any(width % groups for width in channels):
            raise ValueError(f"groups={groups} must divide each of channels={list(channels)}.")
        layers: list[nn.Module] = []
        for before, after in pairwise([in_channels, *channels]):
            layers += [
                nn.Conv1d(before, after, kernel, stride=2, padding=kernel // 2, bias=False),
                nn.GroupNorm(groups, after),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, in_channels, T)` to `(B, channels[-1])`."""
        return self.layers(x).mean(2)
