"""The global context block: a summary of a whole map, added to every position."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkd.losses.layers import conv2d


class GlobalContext(nn.Module):
    """Relations between all positions of a map: a pooled context is added to every position (GcBlock).

    Cao et al.: GCNet, ICCV Workshops 2019, arXiv:1904.11492: softmax pooling by a 1x1 convolution, a
    bottleneck of half the channels with layer normalization and ReLU. The last layer starts at 0, so that the
    block starts as the identity.

    Args:
        width: Channels of the map.
        generator: Random generator of the initial weights.

    Example:
        >>> maps = torch.ones(2, 4, 3, 3)
        >>> torch.equal(GlobalContext(4, torch.Generator().manual_seed(0))(maps), maps)
        True
    """

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        middle = max(1, width // 2)
        self.weigh = conv2d(width, 1, generator)
        last = conv2d(middle, width, generator)
        self.transform = nn.Sequential(
            conv2d(width, middle, generator),
            nn.LayerNorm([middle, 1, 1]),
            nn.ReLU(),
            last,
        )
        nn.init.zeros_(last.weight)

    def forward(self, maps: Tensor) -> Tensor:
        """Adds the context to maps `(B, C, H, W)`."""
        weights = F.softmax(self.weigh(maps).flatten(2), 2)
        context = (maps.flatten(2) * weights).sum(2)[:, :, None, None]
        return maps + self.transform(context)
