"""Gates, which decide what is sent: each gives every unit a score, and the highest are sent."""

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
    """Returns all gates that a report compares, except random and the oracle.

    Args:
        task: `"boxes"` or `"classes"`.
        places: Number of pairs of a camera and a unit that occur; with one, a camera mean cannot tell units
            apart.
    """
    doubt: list[Gate] = (
        [NarrowBoxes(), LowScores(), UnsureBoxes(), ScoreEntropy()]
        if task == "boxes"
        else [Entropy(), Margin(), MaxProbability()]
    )
    return [*doubt, *([CameraMean()] if places > 1 else []), Learned()]
