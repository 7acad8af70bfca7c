"""Gates of detectors: statistics of the student's boxes in a unit."""

from typing import cast

import numpy as np

from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answer, Answers
from lkd.edge.offload.boxes import BoxTask, entropies
from lkd.edge.offload.gates.gate import Gate
from lkd.edge.offload.task import OffloadTask


class _OfBoxes(Gate):
    task = "boxes"

    def score(self, task: OffloadTask, answers: Answers) -> Array:
        """Returns a statistic of each unit's boxes."""
        return np.array([[self.statistic(v) for v in views] for views in cast(BoxTask, task).views(answers)])

    def statistic(self, view: Answer) -> float:
        """Computes a number from the `widths` and `scores` of a unit's boxes."""
        raise NotImplementedError


class UnsureBoxes(_OfBoxes):
    """Share of the boxes that are unsure, with scores of .1 to .5."""

    name = "unsure boxes"

    def statistic(self, view: Answer) -> float:
        """Returns the share of unsure boxes, or 0 without a box."""
        return float((view["scores"] <= 0.5).mean()) if len(view["scores"]) else 0.0


class NarrowBoxes(_OfBoxes):
    """Minus the median width of the boxes: a small detector misses small objects."""

    name = "narrow boxes"

    def statistic(self, view: Answer) -> float:
        """Returns minus the median width, in shares of the frame's longer side, or -1 without a box."""
        return -float(np.median(view["widths"])) if len(view["widths"]) else -1.0


class LowScores(_OfBoxes):
    """Minus the mean score of the boxes."""

    name = "low scores"

    def statistic(self, view: Answer) -> float:
        """Returns minus the mean score, or -1 without a box."""
        return -float(view["scores"].mean()) if len(view["scores"]) else -1.0


class ScoreEntropy(_OfBoxes):
    """Sum over the boxes of the entropy of their scores."""

    name = "entropy of scores"
    gains = True

    def statistic(self, view: Answer) -> float:
        """Returns the sum of the entropies, in nats."""
        return float(entropies(view["scores"]).sum())
