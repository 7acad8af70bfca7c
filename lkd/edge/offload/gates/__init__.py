"""Who decides what is sent: each gate gives every unit a score, and the highest are sent."""

from lkd.edge.offload.gates.boxes import LowScores, NarrowBoxes, ScoreEntropy, UnsureBoxes
from lkd.edge.offload.gates.classes import Entropy, Margin, MaxProbability
from lkd.edge.offload.gates.gate import Gate
from lkd.edge.offload.gates.learned import Learned
from lkd.edge.offload.gates.plain import CameraMean, Oracle, Random

__all__ = [
    "CameraMean",
    "Entropy",
    "Gate",
    "Learned",
    "LowScores",
    "Margin",
    "MaxProbability",
    "NarrowBoxes",
    "Oracle",
    "Random",
    "ScoreEntropy",
    "UnsureBoxes",
    "usual",
]


def usual(task: str, places: int) -> list[Gate]:
    """All that a report compares, but random and the oracle.

    Args:
        task: `"boxes"` or `"classes"`.
        places: Pairs of a camera and a unit that occur; with one there is no mean to tell them apart by.
    """
    doubt: list[Gate] = (
        [NarrowBoxes(), LowScores(), UnsureBoxes(), ScoreEntropy()]
        if task == "boxes"
        else [Entropy(), Margin(), MaxProbability()]
    )
    return [*doubt, *([CameraMean()] if places > 1 else []), Learned()]
