"""The residual networks of CIFAR studies: resnet8 to resnet110, and the wide resnet8x4 and resnet32x4."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class CIFARResNet(nn.Module):
    """A residual network for small images: a convolution, three stages of blocks, pooling, a linear layer.

    He et al.: Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385, Section 4.2, with
    1x1 convolutions where a block changes the size (option B). Distillation studies use it as in RepDistiller
    (Tian et al., ICLR 2020), whose names of weights are kept, so that its published teachers can be loaded by
    `load_state_dict`: resnet20 is `depth=20`; resnet8x4 and resnet32x4 are `channels=[32, 64, 128, 256]`.

    Layers to distill from: the stages `layer1`, `layer2` and `layer3`, maps `(B, C, H, W)` after their last
    ReLU, at full, half and a quarter of the image's side; `pool`, the embedding `(B, C)`; `fc`, the logits.

    Args:
        depth: 6n + 2 for n blocks in a stage: 8, 14, 20, 32, 44, 56, 110.
        classes: Number of classes.
        channels: Channels of the first convolution and of the three stages. Default 16, 16, 32 and 64.
        in_channels: Channels of the images.

    Raises:
        ValueError: For a depth that is not 6n + 2, or another number of channels than four.

    Example:
        >>> import torch
        >>> network = CIFARResNet(depth=8, classes=100, channels=[32, 64, 128, 256])  # resnet8x4
        >>> network(torch.zeros(2, 3, 32, 32)).shape, sum(p.numel() for p in network.parameters())
        (torch.Size([2, 100]), 1233540)
    """

    def __init__(
        self,
        depth: int,
        classes: int = 10,
        channels: Sequence[int] = (16, 16, 32, 64),
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth={depth} must be 6n + 2, such as 8, 14, 20, 32, 44, 56 or 110.")
        if len(channels) != 4 or min(channels) < 1:
            raise ValueError(
                f"channels={list(channels)} must be four numbers: first convolution and three stages."
            )
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.relu = nn.ReLU()
        stages = [
            nn.Sequential(
                BasicBlock(before, after, 1 if index == 0 else 2),
                *(BasicBlock(after, after) for _ in range(blocks - 1)),
            )
            for index, (before, after) in enumerate(pairwise(channels))
        ]
        self.layer1, self.layer2, self.layer3 = stages
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(channels[-1], classes)
        start(self)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, in_channels, H, W)` to `(B, classes)`."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.fc(self.pool(self.layer3(self.layer2(self.layer1(x)))))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut: `relu(f(x) + x)`.

    Args:
        before: Channels of the input.
        after: Channels of the output.
        stride: Stride of the first convolution.
    """

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU()
        self.downsample = (
            nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            if stride != 1 or before != after
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, before, H, W)` to `(B, after, H / stride, W / stride)`."""
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(inner + self.downsample(x))


def start(network: nn.Module) -> None:
    """Draws the weights of all convolutions as He et al. 2015 (normal, by fan-out).

    Other layers stay as they are.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
