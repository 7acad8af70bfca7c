"""The two halves of a bottleneck between device and server, cheap on the device."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lkd.checks import expect


class BottleneckEncoder(nn.Sequential):
    """The device's half: convolutions from an image to a small tensor, the last one without an activation.

    It has the shape of the student heads of Matsubara et al., 2020 (see `lkd.modules.SplitClassifier`): a few
    convolutions with batch norm and ReLU, of which the last has as few channels as are sent.

    Args:
        in_channels: Channels of the images.
        channels: Channels of the tensor that is sent.
        stride: How many times smaller its sides are than the image's; a power of 2.
        width: Channels of the layers in between.

    Raises:
        ValueError: For a stride that is no power of 2, or a number below 1.

    Example:
        >>> import torch
        >>> BottleneckEncoder(3, channels=4, stride=4)(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 4, 8, 8])
    """

    def __init__(self, in_channels: int, channels: int = 4, stride: int = 2, width: int = 16) -> None:
        if stride < 1 or stride & (stride - 1):
            raise ValueError(f"stride={stride} must be 1, 2, 4 or another power of 2.")
        expect(channels=channels, width=width, ge=1)
        layers: list[nn.Module] = []
        for k in range(max(stride.bit_length() - 1, 1)):
            before, step = (in_channels if k == 0 else width), (2 if stride > 1 else 1)
            layers += [
                nn.Conv2d(before, width, 3, step, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        super().__init__(*layers, nn.Conv2d(width, channels, 3, padding=1))


class BottleneckDecoder(nn.Module):
    """The server's half: from the received tensor to a map like a layer's.

    Args:
        channels: Channels of the tensor that is sent.
        shape: Shape of the layer's map of one sample, `(C, H, W)`.

    Raises:
        ValueError: For a shape that is no map's.

    Example:
        >>> import torch
        >>> BottleneckDecoder(4, (32, 16, 16))(torch.zeros(1, 4, 8, 8)).shape
        torch.Size([1, 32, 16, 16])
    """

    def __init__(self, channels: int, shape: Sequence[int]) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ValueError(f"shape={tuple(shape)} must be that of a map, (C, H, W); cut at a convolution.")
        self.size = tuple(shape[1:])
        wide = shape[0]
        self.before = nn.Sequential(
            nn.Conv2d(channels, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()
        )
        self.after = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.Conv2d(wide, wide, 3, padding=1),
        )

    def forward(self, received: Tensor) -> Tensor:
        """Maps `(B, channels, h, w)` to `(B, C, H, W)`."""
        return self.after(F.interpolate(self.before(received), self.size))
