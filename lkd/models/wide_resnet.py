"""Wide residual networks of CIFAR studies: wrn-16-2, wrn-40-2 and others."""

from itertools import pairwise

from torch import Tensor, nn

from lkd.checks import expect
from lkd.models.cifar_resnet import start


class WideResNet(nn.Module):
    """A wide residual network for small images, with the activation before the convolution.

    Zagoruyko and Komodakis: Wide Residual Networks, BMVC 2016, arXiv:1605.07146: wrn-d-k is `depth=d,
    widen=k`. They are as in RepDistiller (Tian et al., ICLR 2020), with its names of weights, so that its
    published teachers can be loaded by `load_state_dict`.

    Layers to distill from: the stages `block1`, `block2` and `block3`, maps `(B, C, H, W)` before the next
    batch norm and ReLU, at full, half and a quarter of the image's side; `relu`, the last map activated;
    `pool`, the embedding `(B, C)`; `fc`, the logits.

    Args:
        depth: 6n + 4 for n blocks in a stage: 16, 22, 28, 40.
        widen: Factor of the stages' 16, 32 and 64 channels.
        classes: Number of classes.
        dropout: Share of values dropped between the convolutions of a block. Default 0.
        in_channels: Channels of the images.

    Raises:
        ValueError: For a depth that is not 6n + 4, or a factor below 1.

    Example:
        >>> import torch
        >>> network = WideResNet(depth=16, widen=2, classes=100)
        >>> network(torch.zeros(2, 3, 32, 32)).shape, sum(p.numel() for p in network.parameters())
        (torch.Size([2, 100]), 703284)
    """

    def __init__(
        self, depth: int, widen: int, classes: int = 10, dropout: float = 0.0, in_channels: int = 3
    ) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth={depth} must be 6n + 4, such as 10, 16, 22, 28 or 40.")
        expect(widen=widen, ge=1)
        channels = [16, 16 * widen, 32 * widen, 64 * widen]
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        stages = [
            BlockGroup(blocks, before, after, 1 if index == 0 else 2, dropout)
            for index, (before, after) in enumerate(pairwise(channels))
        ]
        self.block1, self.block2, self.block3 = stages
        self.bn1 = nn.BatchNorm2d(channels[-1])
        self.relu = nn.ReLU()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(channels[-1], classes)
        start(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, in_channels, H, W)` to `(B, classes)`."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(self.pool(self.relu(self.bn1(x))))


class BlockGroup(nn.Module):
    """Blocks of one width, of which the first may halve the size.

    It is a module of its own for the names of its weights.

    Args:
        blocks: Number of blocks.
        before: Channels of the input.
        after: Channels of the output.
        stride: Stride of the first block.
        dropout: Share of values dropped inside a block.
    """

    def __init__(self, blocks: int, before: int, after: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            WideBlock(before, after, stride, dropout),
            *(WideBlock(after, after, 1, dropout) for _ in range(blocks - 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, before, H, W)` to `(B, after, H / stride, W / stride)`."""
        return self.layer(x)


class WideBlock(nn.Module):
    """Two times batch norm, ReLU and a 3x3 convolution, around a shortcut.

    Where the width changes, the shortcut starts after the first activation, through a 1x1 convolution.

    Args:
        before: Channels of the input.
        after: Channels of the output.
        stride: Stride of the first convolution.
        dropout: Share of values dropped before the second convolution.
    """

    def __init__(self, before: int, after: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.convShortcut = nn.Conv2d(before, after, 1, stride, bias=False) if before != after else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, before, H, W)` to `(B, after, H / stride, W / stride)`."""
        active = self.relu1(self.bn1(x))
        inner = self.conv2(self.dropout(self.relu2(self.bn2(self.conv1(active)))))
        return inner + (x if self.convShortcut is None else self.convShortcut(active))
