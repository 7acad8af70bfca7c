"""Networks: YOLO and torchvision detectors, small and CIFAR networks, multimodal ones, common parts."""

from lkd.models.bottleneck import BottleneckDecoder, BottleneckEncoder
from lkd.models.build import detector_network
from lkd.models.cifar_resnet import CIFARResNet
from lkd.models.cut import Cut
from lkd.models.dense import detections, grid
from lkd.models.detector_network import DetectorNetwork
from lkd.models.fusion import AttentionFusion, ConcatFusion, GatedFusion, MeanFusion
from lkd.models.generator import FeatureGenerator
from lkd.models.multi_exit import MultiExit
from lkd.models.multi_head import MultiHead
from lkd.models.multimodal import Multimodal
from lkd.models.per_camera import PerCamera
from lkd.models.private_shared import PrivateShared
from lkd.models.sensor import SensorEncoder
from lkd.models.small import CNN, MLP
from lkd.models.suppression import suppressed
from lkd.models.torchvision_detector import TorchvisionDetector
from lkd.models.wide_resnet import WideResNet
from lkd.models.yolo import YOLO

__all__ = [
    "CNN",
    "MLP",
    "YOLO",
    "AttentionFusion",
    "BottleneckDecoder",
    "BottleneckEncoder",
    "CIFARResNet",
    "ConcatFusion",
    "Cut",
    "DetectorNetwork",
    "FeatureGenerator",
    "GatedFusion",
    "MeanFusion",
    "MultiExit",
    "MultiHead",
    "Multimodal",
    "PerCamera",
    "PrivateShared",
    "SensorEncoder",
    "TorchvisionDetector",
    "WideResNet",
    "detections",
    "detector_network",
    "grid",
    "suppressed",
]
