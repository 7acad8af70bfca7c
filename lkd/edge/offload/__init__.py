"""A student on the device and a teacher at the edge server share the work."""

from lkd.edge.offload.arms import Arm, Bottleneck, EarlyExit, SentExit
from lkd.edge.offload.budget import Budget
from lkd.edge.offload.cascade import offload
from lkd.edge.offload.gates import (
    CameraMean,
    Entropy,
    Gate,
    Learned,
    LowScores,
    Margin,
    MaxProbability,
    NarrowBoxes,
    Oracle,
    Random,
    ScoreEntropy,
    UnsureBoxes,
)
from lkd.edge.offload.link import Link
from lkd.edge.offload.payload import Payload
from lkd.edge.offload.point import Point
from lkd.edge.offload.tiles import Tiles

__all__ = [
    "Arm",
    "Bottleneck",
    "Budget",
    "CameraMean",
    "EarlyExit",
    "Entropy",
    "Gate",
    "Learned",
    "Link",
    "LowScores",
    "Margin",
    "MaxProbability",
    "NarrowBoxes",
    "Oracle",
    "Payload",
    "Point",
    "Random",
    "ScoreEntropy",
    "SentExit",
    "Tiles",
    "UnsureBoxes",
    "offload",
]
