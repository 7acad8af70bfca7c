"""Callbacks: the glue between Lightning's Trainer and distillation, averaging, warm-up and reports."""

from lkd.callbacks.boxes import BoxDistillation
from lkd.callbacks.distillation import Distillation
from lkd.callbacks.presets import FeatureDistillation, LogitDistillation, RelationDistillation

__all__ = [
    "BoxDistillation",
    "Distillation",
    "FeatureDistillation",
    "LogitDistillation",
    "RelationDistillation",
]
