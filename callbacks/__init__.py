"""Callbacks: the glue between Trainer and distillation, averaging, warm-up, federations and reports."""

from lkd.callbacks.boxes import BoxDistillation
from lkd.callbacks.clients import ClientReport
from lkd.callbacks.distillation import Distillation
from lkd.callbacks.ema import EMA
from lkd.callbacks.heads import HeadReport
from lkd.callbacks.lines import EpochLines
from lkd.callbacks.mean_teacher import MeanTeacher
from lkd.callbacks.presets import FeatureDistillation, LogitDistillation, RelationDistillation
from lkd.callbacks.progress import ClientProgress
from lkd.callbacks.report import DetectionReport
from lkd.callbacks.rounds import RoundReport
from lkd.callbacks.temperature import TemperatureSchedule
from lkd.callbacks.topology import TopologyPicture
from lkd.callbacks.tradeoff import TradeoffLog
from lkd.callbacks.warmup import WarmUp
from lkd.callbacks.weight_ramp import WeightRamp

__all__ = [
    "EMA",
    "BoxDistillation",
    "ClientProgress",
    "ClientReport",
    "DetectionReport",
    "Distillation",
    "EpochLines",
    "FeatureDistillation",
    "HeadReport",
    "LogitDistillation",
    "MeanTeacher",
    "RelationDistillation",
    "RoundReport",
    "TemperatureSchedule",
    "TopologyPicture",
    "TradeoffLog",
    "WarmUp",
    "WeightRamp",
]
