"""Detectors that tests take one after the other: YOLO, where its extra is installed, and torchvision's."""

from importlib.util import find_spec

import pytest

from lkd.models import TorchvisionDetector

# not imported here: lkd's adapter does it without its side effects
needs_yolo = pytest.mark.skipif(
    find_spec("ultralytics") is None, reason='needs the extra: pip install "lightning-kd[yolo]"'
)


def yolo(**options):
    """What `Detector` makes a YOLO of."""
    return {"network": "yolov8n.yaml", **options}


def fcos(num_classes=1, **options):
    """A small FCOS of torchvision."""
    return {
        "network": TorchvisionDetector("fcos", "test_resnet", num_classes=num_classes, channels=64),
        **options,
    }


both = pytest.mark.parametrize("kind", [pytest.param(yolo, marks=needs_yolo, id="yolo"), fcos])
"""A function of options of `Detector` that adds the network to them."""


def logits(outputs):
    """The class logits of raw outputs."""
    return outputs["scores"] if "scores" in outputs else outputs["cls_logits"]
