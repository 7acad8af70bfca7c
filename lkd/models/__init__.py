"""Networks: the YOLO adapter, one network per camera, and what dense detectors share."""

from lkd.models.dense import detections, grid
from lkd.models.per_camera import PerCamera
from lkd.models.yolo import YOLO

__all__ = ["YOLO", "PerCamera", "detections", "grid"]
