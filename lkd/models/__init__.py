"""Networks: the YOLO adapter, small networks, one network per camera, and what dense detectors share."""

from lkd.models.dense import detections, grid
from lkd.models.per_camera import PerCamera
from lkd.models.small import CNN, MLP
from lkd.models.yolo import YOLO

__all__ = ["CNN", "MLP", "YOLO", "PerCamera", "detections", "grid"]
