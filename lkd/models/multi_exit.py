"""A network with exits: classifiers at its inner stages, beside its own at the end."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lkd.taps import Taps


class MultiExit(nn.Module):
    """Convolutional network of any kind with a classifier on each inner stage.

    A stage's exit is a bottleneck (convolutions 1x1, n x n with stride n, 1x1, each with batch norm and ReLU)
    that brings its map to the size and channels of the deepest stage, then mean pooling and a linear layer,
    after Zhang et al.: Be Your Own Teacher, ICCV 2019, arXiv:1905.08094. A call runs the network alone,
    without the exits' cost, so it can be evaluated, exported and used as a teacher like any other; `exits`
    runs all of them.

    Args:
        network: Network that maps images `(B, in_channels, image_size, image_size)` to logits `(B, classes)`.
        layers: Addresses of the stages, from the shallowest to the deepest, whose outputs are maps. The
            deepest gets no exit of its own: the exits imitate it, and the network's output is its classifier.
        image_size: Side of the images in pixels, which decides the size of the exits.
        in_channels: Channels of the images.

    Raises:
        ValueError: For fewer than two stages, or stages whose outputs are no maps or grow with depth.

    Example:
        >>> from lkd.models import CIFARResNet
        >>> network = MultiExit(CIFARResNet(8, classes=10), layers=["layer1", "layer2", "layer3"])
        >>> logits, features = network.exits(torch.zeros(2, 3, 32, 32))
        >>> [tuple(z.shape) for z in logits], [tuple(f.shape) for f in features]
        ([(2, 10), (2, 10), (2, 10)], [(2, 64, 8, 8), (2, 64, 8, 8), (2, 64, 8, 8)])
    """

    def __init__(
        self, network: nn.Module, layers: Sequence[str], image_size: int = 32, in_channels: int = 3
    ) -> None:
        super().__init__()
        if len(layers) < 2:
            raise ValueError(f"layers={list(layers)} must name at least two stages, the deepest last.")
        self.network, self.layers = network, list(layers)
        logits, maps = self._example(in_channels, image_size)
        self.heads = nn.ModuleList(self._head(i, maps, logits.shape[1]) for i in range(len(maps) - 1))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits of the deepest exit, `(B, classes)`."""
        return self.network(x)

    def exits(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Returns logits `(B, classes)` and maps of all exits, from the shallowest to the deepest."""
        with Taps(self.network, self.layers, "layers") as taps:
            deepest = self.network(x)
        *inner, last = (taps.output(layer) for layer in self.layers)
        pairs = [head(stage) for head, stage in zip(self.heads, inner, strict=True)]
        return [*(logits for logits, _ in pairs), deepest], [*(features for _, features in pairs), last]

    def _example(self, channels: int, side: int) -> tuple[Tensor, list[Tensor]]:
        """Returns the outputs of network and stages for one black image.

        Statistics and mode stay as they were.
        """
        training = self.network.training
        with torch.no_grad(), Taps(self.network.eval(), self.layers, "layers") as taps:
            logits = self.network(torch.zeros(1, channels, side, side))
        self.network.train(training)
        return logits, [taps.output(layer) for layer in self.layers]

    def _head(self, index: int, maps: list[Tensor], classes: int) -> "Exit":
        stage, last = maps[index], maps[-1]
        if stage.ndim != 4 or last.ndim != 4 or stage.shape[-1] < last.shape[-1]:
            raise ValueError(
                f"layers={self.layers}: {self.layers[index]!r} gives {tuple(stage.shape)} and {self.layers[-1]!r} "
                f"{tuple(last.shape)}; stages must give maps (B, C, H, W), none smaller than the deepest."
            )
        return Exit(stage.shape[1], last.shape[1], stage.shape[-1] // last.shape[-1], classes)


class Exit(nn.Module):
    """Bottleneck, mean pooling and linear layer.

    Args:
        before: Channels of the stage.
        after: Channels of the deepest stage.
        ratio: How many times larger the stage's side is than the deepest's.
        classes: Number of classes.
    """

    def __init__(self, before: int, after: int, ratio: int, classes: int) -> None:
        super().__init__()
        middle = max(after // 4, 1)
        self.bottleneck = nn.Sequential(
            *_convolution(before, middle, 1),
            *_convolution(middle, middle, ratio),
            *_convolution(middle, after, 1),
        )
        self.fc = nn.Linear(after, classes)

    def forward(self, stage: Tensor) -> tuple[Tensor, Tensor]:
        """Maps a stage's map to logits `(B, classes)` and the bottleneck's map."""
        features = self.bottleneck(stage)
        return self.fc(features.mean((2, 3))), features


def _convolution(before: int, after: int, size: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, size, stride=size, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
