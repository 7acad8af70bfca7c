"""Networks: the YOLO adapter, a perceptron, one network per camera, and what dense detectors share."""

from lkd.models.dense import detections, grid
from lkd.models.mlp import MLP
from lkd.models.per_camera import PerCamera
from lkd.models.yolo import YOLO

__all__ = ["MLP", "YOLO", "PerCamera", "detections", "grid"]
