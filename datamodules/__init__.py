"""Data: cameras over car parks and roads for detection, patches, digits and motion for classification."""

from lkd.datamodules.classification import ClassificationDataModule
from lkd.datamodules.cnrpark import CNRParkEXT
from lkd.datamodules.cnrpark_patches import CNRParkPatches
from lkd.datamodules.coco_folder import CocoFolder
from lkd.datamodules.cohorts import (
    AllClients,
    Cohort,
    CohortSampler,
    FixedCohort,
    UniformCohort,
    WeightedCohort,
)
from lkd.datamodules.detection import DetectionDataModule
from lkd.datamodules.digits import Digits
from lkd.datamodules.federated import FederatedDataModule
from lkd.datamodules.frames import Frame, FrameDataset, collate
from lkd.datamodules.har import SmartphoneSmartwatchHAR
from lkd.datamodules.image_folder import ImageFolderData
from lkd.datamodules.images import ImageDataModule
from lkd.datamodules.modality_plan import ModalityPlan
from lkd.datamodules.noise import Noise
from lkd.datamodules.parking_world import ParkingWorld
from lkd.datamodules.partitions import IID, LogNormal, Natural, Partition, PowerLaw
from lkd.datamodules.pklot import PKLot
from lkd.datamodules.public import PublicData
from lkd.datamodules.rgb_thermal import RGBThermalFolder
from lkd.datamodules.samplers import CameraBatchSampler, IndexBatchSampler, Key
from lkd.datamodules.shards import Population, Shard
from lkd.datamodules.skews import Dirichlet, PrimaryLabels, Shards, Similarity
from lkd.datamodules.splits import Splits, by_time
from lkd.datamodules.synthetic import Synthetic
from lkd.datamodules.torchvision_data import TorchvisionData
from lkd.datamodules.uci_har import UCIHAR
from lkd.datamodules.views import View, Views
from lkd.datamodules.yolo_folder import YoloFolder

__all__ = [
    "IID",
    "UCIHAR",
    "AllClients",
    "CNRParkEXT",
    "CNRParkPatches",
    "CameraBatchSampler",
    "ClassificationDataModule",
    "CocoFolder",
    "Cohort",
    "CohortSampler",
    "DetectionDataModule",
    "Digits",
    "Dirichlet",
    "FederatedDataModule",
    "FixedCohort",
    "Frame",
    "FrameDataset",
    "ImageDataModule",
    "ImageFolderData",
    "IndexBatchSampler",
    "Key",
    "LogNormal",
    "ModalityPlan",
    "Natural",
    "Noise",
    "PKLot",
    "ParkingWorld",
    "Partition",
    "Population",
    "PowerLaw",
    "PrimaryLabels",
    "PublicData",
    "RGBThermalFolder",
    "Shard",
    "Shards",
    "Similarity",
    "SmartphoneSmartwatchHAR",
    "Splits",
    "Synthetic",
    "TorchvisionData",
    "UniformCohort",
    "View",
    "Views",
    "WeightedCohort",
    "YoloFolder",
    "by_time",
    "collate",
]
