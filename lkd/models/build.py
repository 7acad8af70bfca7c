"""A detector's network, built from what a user or a checkpoint names."""

from typing import Any

from torch import nn

from lkd.models.detector_network import require_network
from lkd.models.torchvision_detector import TorchvisionDetector
from lkd.models.yolo import YOLO


def detector_network(
    network: nn.Module | str | dict[str, Any],
    num_classes: int | None = None,
    class_map: dict[int, int] | None = None,
) -> nn.Module:
    """Builds a network as `lkd.models.DetectorNetwork` describes it.

    Args:
        network: Such a network, which is taken as it is; or an architecture, of a `TorchvisionDetector` or as
            `YOLO` takes it.
        num_classes: Number of classes. Default: 1 for a YOLO; for other networks it is only checked.
        class_map: Class map of a YOLO's pre-trained weights.

    Raises:
        TypeError: If the module is no such network.
        ValueError: For a wrong number of classes, or a class map of another network than a YOLO.

    Example:
        >>> detector_network({"head": "ssdlite", "backbone": "test_resnet", "channels": 16}).num_classes
        1
    """
    if isinstance(network, dict) and isinstance(network.get("head"), str):  # YOLO's head is a list of layers
        network = TorchvisionDetector(**network)
    if not isinstance(network, nn.Module):
        return YOLO(network, 1 if num_classes is None else num_classes, class_map)
    require_network(network)
    name, count = type(network).__name__, network.num_classes
    if class_map:
        raise ValueError(
            f"class_map={class_map} merges classes of YOLO's weights, and {name} is a network already: of a teacher's classes "
            "Teacher(classes={name: name}) says what they are to the student."
        )
    if num_classes not in (None, count):
        raise ValueError(f"num_classes={num_classes}, but the {name} has {count}.")
    return network
