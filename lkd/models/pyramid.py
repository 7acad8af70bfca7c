"""The feature maps of a timm backbone, through torchvision's feature pyramid."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from lkd.models.timm_names import check_timm_name, timm_network

SMALLEST = 8
"""Pixels per cell of the finest map that enters the pyramid, as in FCOS and RetinaNet."""


class TimmPyramid(nn.Module):
    """A timm backbone with random weights and a feature pyramid of maps with 8 pixels per cell and coarser.

    Args:
        backbone: Name of a timm model that gives feature maps, such as `"resnet18"` or
            `"mobilenetv3_small_100"`.
        channels: Channels of every map of the pyramid.

    Attributes:
        out_channels: The channels, as torchvision's detectors ask for them.
        strides: Pixels per cell of each map.

    Raises:
        ValueError: For an unknown name, or a model without such maps.

    Example:
        >>> pyramid = TimmPyramid("test_resnet", channels=32)
        >>> [tuple(level.shape[1:]) for level in pyramid(torch.zeros(1, 3, 64, 64)).values()]
        [(32, 8, 8), (32, 4, 4), (32, 2, 2), (32, 1, 1), (32, 1, 1)]
    """

    def __init__(self, backbone: str, channels: int = 256) -> None:
        super().__init__()
        check_timm_name("backbone", backbone)
        try:
            info: Any = timm_network("backbone", backbone, features_only=True).feature_info
            last = {stride: place for place, stride in enumerate(info.reduction()) if stride >= SMALLEST}
            self.body = timm_network(
                "backbone", backbone, features_only=True, out_indices=tuple(last.values())
            )
            self.channels_last = getattr(self.body, "output_fmt", None) == "NHWC"
            found = self._maps(torch.zeros(1, 3, 64, 64))
        except (RuntimeError, AssertionError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"backbone={backbone!r} gives no feature maps of {SMALLEST} pixels a cell and coarser, for images of any size "
                f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); take a convolutional one, such as 'resnet18'."
            ) from error
        self.strides = [*last, 2 * max(last), 4 * max(last)]
        self.fpn = FeaturePyramidNetwork(
            [level.shape[1] for level in found], channels, LastLevelP6P7(channels, channels)
        )
        self.out_channels = channels

    @torch.no_grad()
    def _maps(self, images: Tensor) -> list[Tensor]:
        """Returns the maps of the backbone for a first input; no batch statistics change."""
        self.body.eval()
        found = self._features(images)
        self.body.train()
        if not found:
            raise ValueError("its maps are finer")
        return found

    def _features(self, images: Tensor) -> list[Tensor]:
        maps = self.body(images)
        return [level.permute(0, 3, 1, 2) for level in maps] if self.channels_last else maps

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Returns maps `(B, channels, h, w)`, the finest first."""
        return self.fpn(OrderedDict((str(k), level) for k, level in enumerate(self._features(images))))
