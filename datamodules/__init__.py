"""Data: cameras over car parks and roads for detection, patches, digits and motion for classification."""

from typing import TYPE_CHECKING

from lkd.datamodules.classification.classification_datamodule import ClassificationDataModule
from lkd.datamodules.classification.cnrpark_patches import CNRParkPatches
from lkd.datamodules.classification.digits import Digits
from lkd.datamodules.classification.image_datamodule import ImageDataModule
from lkd.datamodules.classification.image_folder import ImageFolderData
from lkd.datamodules.classification.random_inputs import Noise
from lkd.datamodules.classification.synthetic import Synthetic
from lkd.datamodules.classification.torchvision_data import TorchvisionData
from lkd.datamodules.detection.cnrpark import CNRParkEXT
from lkd.datamodules.detection.coco_folder import CocoFolder
from lkd.datamodules.detection.detection_datamodule import DetectionDataModule
from lkd.datamodules.detection.frames import CameraFrame, FrameDataset, collate
from lkd.datamodules.detection.parking_world import ParkingWorld
from lkd.datamodules.detection.pklot import PKLot
from lkd.datamodules.detection.rgb_thermal import RGBThermalFolder
from lkd.datamodules.detection.views import FrameView, Views
from lkd.datamodules.detection.yolo_folder import YoloFolder
from lkd.datamodules.federated.client_data import ClientShard, Population
from lkd.datamodules.federated.client_sampling import (
    AllClients,
    ClientSampler,
    CohortSampler,
    FixedSampler,
    UniformSampler,
    WeightedSampler,
)
from lkd.datamodules.federated.federated_datamodule import FederatedDataModule
from lkd.datamodules.federated.label_skew import Dirichlet, PrimaryLabels, Shards, Similarity
from lkd.datamodules.federated.partitions import IID, LogNormal, Natural, Partition, PowerLaw
from lkd.datamodules.federated.poisson_sampler import PoissonSampler
from lkd.datamodules.federated.public_data import PublicData
from lkd.datamodules.federated.sampling_scheme import Sampling
from lkd.datamodules.federated.site_clients import SiteClients
from lkd.datamodules.modalities.modality_plan import ModalityPlan
from lkd.datamodules.samples.samplers import CameraBatchSampler, IndexBatchSampler, Key
from lkd.datamodules.samples.splits import Splits, by_time
from lkd.datamodules.sensors.har import SmartphoneSmartwatchHAR
from lkd.datamodules.sensors.uci_har import UCIHAR
from lkd.former_names import former_classes

__all__ = [
    "IID",
    "UCIHAR",
    "AllClients",
    "CNRParkEXT",
    "CNRParkPatches",
    "CameraBatchSampler",
    "CameraFrame",
    "ClassificationDataModule",
    "ClientSampler",
    "ClientShard",
    "CocoFolder",
    "CohortSampler",
    "DetectionDataModule",
    "Digits",
    "Dirichlet",
    "FederatedDataModule",
    "FixedSampler",
    "FrameDataset",
    "FrameView",
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
    "PoissonSampler",
    "Population",
    "PowerLaw",
    "PrimaryLabels",
    "PublicData",
    "RGBThermalFolder",
    "Sampling",
    "Shards",
    "Similarity",
    "SiteClients",
    "SmartphoneSmartwatchHAR",
    "Splits",
    "Synthetic",
    "TorchvisionData",
    "UniformSampler",
    "Views",
    "WeightedSampler",
    "YoloFolder",
    "by_time",
    "collate",
]

if not TYPE_CHECKING:  # a type checker shall go on telling what there is not
    __getattr__ = former_classes(
        globals(),
        Cohort="ClientSampler",
        FixedCohort="FixedSampler",
        Frame="CameraFrame",
        Shard="ClientShard",
        UniformCohort="UniformSampler",
        View="FrameView",
        WeightedCohort="WeightedSampler",
    )
