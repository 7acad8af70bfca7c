"""A generator of features for a label."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkd.checks import expect


class FeatureGenerator(nn.Module):
    """Network from noise and a label to features: one hidden layer with batch norm, as in FedGen's code.

    Args:
        classes: Number of classes; a label enters one-hot.
        features: Size of a feature vector.
        noise: Size of the noise vector.
        hidden: Width of the hidden layer.

    Raises:
        ValueError: For a number below 1.

    Example:
        >>> FeatureGenerator(classes=3, features=8)(torch.zeros(2, 32), torch.tensor([0, 2])).shape
        torch.Size([2, 8])
    """

    def __init__(self, classes: int, features: int, noise: int = 32, hidden: int = 256) -> None:
        super().__init__()
        expect(classes=classes, features=features, noise=noise, hidden=hidden, ge=1)
        self.classes, self.noise = classes, noise
        self.layers = nn.Sequential(
            nn.Linear(noise + classes, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, features),
        )

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Maps noise `(B, noise)` and labels `(B,)` to features `(B, features)`."""
        return self.layers(torch.cat([noise, F.one_hot(labels, self.classes).to(noise)], 1))
