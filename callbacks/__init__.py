"""Callbacks: the glue between Lightning's Trainer and distillation, averaging, warm-up and reports."""

from lkd.callbacks.boxes import BoxDistillation
from lkd.callbacks.distillation import Distillation
from lkd.callbacks.ema import EMA
from lkd.callbacks.presets import FeatureDistillation, LogitDistillation, RelationDistillation
from lkd.callbacks.report import DetectionReport
from lkd.callbacks.warmup import WarmUp

__all__ = [
    "EMA",
    "BoxDistillation",
    "DetectionReport",
    "Distillation",
    "FeatureDistillation",
    "LogitDistillation",
    "RelationDistillation",
    "WarmUp",
]
