"""Baselines for every gate: chance, the camera's mean, and an oracle that knows the labels."""

import numpy as np

from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answers
from lkd.edge.offload.gates.gate import Gate
from lkd.edge.offload.gates.places import PlaceMeans
from lkd.edge.offload.task import Judge, OffloadTask


class Random(Gate):
    """Gate that draws random scores.

    Args:
        seed: Seed of the draw.
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def score(self, task: OffloadTask, answers: Answers) -> Array:
        """Returns uniform random scores."""
        return np.asarray(np.random.default_rng(self.seed).random(answers.nbytes.shape))


class CameraMean(Gate):
    """The mean over calibration data of what the teacher added at this camera, in this place of its frames.

    It looks at no picture. At fixed cameras, the gap between student and teacher depends on the place, so a
    gate that does not beat this one is worth nothing.
    """

    name, gains = "camera mean", True

    def fit(self, task: OffloadTask, answers: Answers) -> None:
        """Computes the means of the gains."""
        self.means = PlaceMeans(task.gain(answers), answers.cameras)

    def score(self, task: OffloadTask, answers: Answers) -> Array:
        """Returns the same for all frames of a camera; for an unknown camera the mean over all cameras."""
        return self.means(answers.cameras)


class Oracle(Gate):
    """Gate that knows the labels, and scores each unit by the change of the metric if it alone is sent.

    It bounds what a gate can reach, and cannot be used in operation.

    Args:
        metric: Name of the metric.
    """

    name, gains = "oracle", True

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def score(self, task: OffloadTask, answers: Answers) -> Array:
        """Returns the gain, which may be negative."""
        return Judge(task, answers).marginal(self.metric)
