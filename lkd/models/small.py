"""Small networks of federated studies."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class MLP(nn.Module):
    """Fully connected layers with ReLU between them, over the flattened input.

    Without hidden layers it is softmax regression.

    With `hidden=[200, 200]` and 784 features it is the "2NN" of McMahan et al. 2017.

    Args:
        features: Number of values in an input, such as 64 for 8x8 pixels.
        classes: Number of classes.
        hidden: Width of every hidden layer. Default: none.

    Raises:
        ValueError: For a width below 1.

    Example:
        >>> import torch
        >>> MLP(64, 10, hidden=[32])(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, features: int, classes: int, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        widths = [features, *hidden, classes]
        if min(widths) < 1:
            raise ValueError(
                f"features={features}, hidden={list(hidden)}, classes={classes} must be 1 or more."
            )
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, ...)` with `features` values each to `(B, classes)`."""
        return self.layers(x)


class CNN(nn.Module):
    """Convolutions 5x5 with ReLU, each followed by a 2x2 max pooling, and one linear layer.

    There are no batch statistics.

    It has the shape of the CNN of McMahan et al. 2017, narrower and without its hidden layer.

    Args:
        image_size: Side of the square images, in pixels.
        classes: Number of classes.
        channels: Channels of every convolution. Default 16 and 32.
        in_channels: Channels of the images.

    Raises:
        ValueError: For images that are too small for so many poolings.

    Example:
        >>> import torch
        >>> CNN(image_size=32, classes=10)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, image_size: int, classes: int, channels: Sequence[int] = (16, 32), in_channels: int = 3
    ) -> None:
        super().__init__()
        side = image_size >> len(channels)
        if not side:
            raise ValueError(
                f"image_size={image_size} is too small for {len(channels)} poolings; give fewer channels."
            )
        layers: list[nn.Module] = []
        for before, after in pairwise([in_channels, *channels]):
            layers += [nn.Conv2d(before, after, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
        width = [in_channels, *channels][-1] * side**2
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, in_channels, image_size, image_size)` to `(B, classes)`."""
        return self.layers(x)
