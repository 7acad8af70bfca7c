"""LightningModules: what is trained."""

from lkd.modules.classifier import Classifier
from lkd.modules.detector import Detector

__all__ = ["Classifier", "Detector"]
