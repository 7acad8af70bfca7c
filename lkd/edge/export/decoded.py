"""Outputs of a detector's network before suppression, with a check that its suppression is the file's."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from lkd.edge.export.kind import arrays
from lkd.edge.export.parity import Parity
from lkd.models.suppression import suppressed


class Decoded(nn.Module):
    """A detector's network up to boxes in pixels and scores, before suppression."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.module = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns boxes `(B, A, 4)` and scores `(B, A, C)` of images `(B, 3, H, W)`."""
        boxes, scores = cast(Any, self.module).boxes_and_scores(self.module(images))
        return boxes, scores


def require_decoded(network: nn.Module) -> None:
    """Checks that a network gives its outputs before suppression; raises ValueError otherwise."""
    if not hasattr(network, "boxes_and_scores"):
        raise ValueError(
            f"network={_name(network)} lacks boxes_and_scores(outputs), by which a file gives boxes (B, A, 4) and scores "
            "(B, A, C) before suppression; see lkd.models.DetectorNetwork."
        )


def multi_label(network: nn.Module) -> bool:
    """Returns whether a box may have several classes."""
    return bool(getattr(network, "multi_label", False))


def check_decoded(network: nn.Module, images: Tensor, thresholds: tuple[float, float, int]) -> None:
    """Runs a network on pictures, and suppresses its boxes as a file will.

    Args:
        network: The network in eval mode.
        images: `(B, 3, H, W)`, of the size of the file's input.
        thresholds: Thresholds of scores and overlap, and the most detections.

    Raises:
        ValueError: If the network takes no such pictures, if its boxes and scores have other shapes, or if
            its own `decode` finds something else.
    """
    detector, name = cast(Any, network), _name(network)
    try:
        with torch.no_grad():
            outputs = detector(images)
            boxes, scores = detector.boxes_and_scores(outputs)
    except ValueError as error:
        raise ValueError(f"input_size={[*images.shape[-2:]]} is none for {name}: {error}") from error
    if boxes.ndim != 3 or boxes.shape[2] != 4 or scores.shape != (*boxes.shape[:2], detector.num_classes):
        raise ValueError(
            f"{name}.boxes_and_scores gives {tuple(boxes.shape)} and {tuple(scores.shape)}, but boxes are (B, A, 4) and scores "
            f"(B, A, {detector.num_classes})."
        )
    own = [arrays(one) for one in detector.decode(outputs, *thresholds)]
    files = suppressed(boxes, scores, *thresholds, multi_label=multi_label(network))
    found = Parity(tolerance=0.001)
    found.compare_detections(own, [arrays(one) for one in files], max(images.shape[-2:]))
    if found.lost > 0.01 * found.found:
        raise ValueError(
            f"{name}.decode finds other boxes than lkd.models.suppressed of its boxes_and_scores, which is what a file does: "
            f"{found.lost} of {found.found} on {len(images)} pictures have no partner in the other."
        )


def _name(network: nn.Module) -> str:
    return type(network).__name__
