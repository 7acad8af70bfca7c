"""Data: cameras over car parks and roads for detection, patches and digits for classification."""

from lkd.datamodules.classification import ClassificationDataModule
from lkd.datamodules.cnrpark import CNRParkEXT
from lkd.datamodules.cnrpark_patches import CNRParkPatches
from lkd.datamodules.detection import DetectionDataModule
from lkd.datamodules.digits import Digits
from lkd.datamodules.frames import Frame, FrameDataset, collate
from lkd.datamodules.parking_world import ParkingWorld
from lkd.datamodules.pklot import PKLot
from lkd.datamodules.samplers import CameraBatchSampler, IndexBatchSampler, Key
from lkd.datamodules.splits import Splits, by_time
from lkd.datamodules.views import View, Views
from lkd.datamodules.yolo_folder import YoloFolder

__all__ = [
    "CNRParkEXT",
    "CNRParkPatches",
    "CameraBatchSampler",
    "ClassificationDataModule",
    "DetectionDataModule",
    "Digits",
    "Frame",
    "FrameDataset",
    "IndexBatchSampler",
    "Key",
    "PKLot",
    "ParkingWorld",
    "Splits",
    "View",
    "Views",
    "YoloFolder",
    "by_time",
    "collate",
]
