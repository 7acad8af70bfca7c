"""Torchvision's one-stage detectors with random weights, on backbones of torchvision or timm."""

from functools import partial
from typing import Any, Literal

from torch import nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead

from lkd.models.pyramid import TimmPyramid

Head = Literal["ssdlite", "fcos", "retinanet"]
HALF = [0.5, 0.5, 0.5]  # SSDLite's images are brought from [0, 1] to [-1, 1]


def torchvision_net(head: Head, backbone: str | None, num_classes: int, channels: int, scale: float) -> Any:
    """Builds a detector of torchvision as torchvision does.

    Args:
        head: `"ssdlite"`, `"fcos"` or `"retinanet"`.
        backbone: A timm name; None for torchvision's own (MobileNetV3-Large; ResNet-50 with a pyramid).
        num_classes: Number of classes, without a background.
        channels: Channels of the pyramid over a timm backbone.
        scale: Factor of the sizes of torchvision's anchor boxes.

    Returns:
        A `detection.FCOS`, `detection.RetinaNet` or `SSD`.
    """
    if backbone is None:
        if head == "ssdlite":
            net = detection.ssdlite320_mobilenet_v3_large(
                weights=None, weights_backbone=None, num_classes=num_classes + 1
            )
            net.anchor_generator = _default_boxes(6, scale)
            return net
        if head == "fcos":
            return detection.fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=num_classes)
        net = detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=num_classes)
        net.anchor_generator = _anchors([8, 16, 32, 64, 128], scale)
        return net
    pyramid = TimmPyramid(backbone, channels)
    if head == "fcos":
        cells = AnchorGenerator(tuple((s,) for s in pyramid.strides), ((1.0,),) * len(pyramid.strides))
        return detection.FCOS(pyramid, num_classes, anchor_generator=cells)
    if head == "retinanet":
        return detection.RetinaNet(pyramid, num_classes, anchor_generator=_anchors(pyramid.strides, scale))
    boxes = _default_boxes(len(pyramid.strides), scale)
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)  # as in ssdlite320_mobilenet_v3_large
    lite = SSDLiteHead(
        [channels] * len(pyramid.strides), boxes.num_anchors_per_location(), num_classes + 1, norm
    )
    # `size` is only what torchvision's own forward would resize to
    return SSD(
        pyramid,
        boxes,
        (320, 320),
        num_classes + 1,
        image_mean=HALF,
        image_std=HALF,
        head=lite,
        topk_candidates=300,
    )


def _anchors(strides: list[int], scale: float) -> AnchorGenerator:
    """Returns RetinaNet's anchors: three sizes and shapes for each cell, the smallest four cells wide."""
    sizes = tuple(tuple(int(4 * s * scale * 2 ** (k / 3)) for k in range(3)) for s in strides)
    return AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(strides))


def _default_boxes(levels: int, scale: float) -> DefaultBoxGenerator:
    """Returns SSDLite's default boxes: from a fifth of the image's sides to nearly all of them."""
    return DefaultBoxGenerator([[2, 3]] * levels, min_ratio=0.2 * scale, max_ratio=0.95 * scale)
