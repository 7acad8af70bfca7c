"""LightningModules that are trained."""

from lkd.modules.classifier import Classifier
from lkd.modules.detector import Detector
from lkd.modules.multi_exit import MultiExitClassifier
from lkd.modules.multi_head import MultiHeadClassifier
from lkd.modules.multimodal import MultimodalClient
from lkd.modules.mutual import MutualLearning
from lkd.modules.private_shared import PrivateSharedClassifier
from lkd.modules.split import SplitClassifier

__all__ = [
    "Classifier",
    "Detector",
    "MultiExitClassifier",
    "MultiHeadClassifier",
    "MultimodalClient",
    "MutualLearning",
    "PrivateSharedClassifier",
    "SplitClassifier",
]
