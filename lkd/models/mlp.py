"""The small networks of federated studies."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class MLP(nn.Module):
    """Fully connected layers with ReLU between them, over the flattened input; without hidden ones, softmax regression.

    With `hidden=[200, 200]` and 784 features it is the "2NN" of McMahan et al. 2017.

    Args:
        features: Numbers in an input, such as 64 for 8x8 pixels.
        classes: Numbers in the output.
        hidden: Width of every hidden layer. Default: none.

    Raises:
        ValueError: A width below 1.

    Example:
        >>> import torch
        >>> MLP(64, 10, hidden=[32])(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, features: int, classes: int, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        widths = [features, *hidden, classes]
        if min(widths) < 1:
            raise ValueError(f"features={features}, hidden={list(hidden)}, classes={classes} must be 1 or more.")
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """`(B, ...)` with `features` numbers each -> `(B, classes)`."""
        return self.layers(x)
