"""What every gate is measured against: chance, the camera's mean, and who knows the answers."""

import numpy as np

from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answers
from lkd.edge.offload.gates.gate import Gate
from lkd.edge.offload.gates.places import PlaceMeans
from lkd.edge.offload.task import Judge, Task


class Random(Gate):
    """Draws.

    Args:
        seed: Of the draw.
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def score(self, task: Task, answers: Answers) -> Array:
        """Uniform."""
        return np.asarray(np.random.default_rng(self.seed).random(answers.nbytes.shape))


class CameraMean(Gate):
    """What the teacher brought at this camera, in this place of its frames, in the mean over calibration data.

    It looks at no picture. At fixed cameras the gap between student and teacher is a matter of where, so a gate that does
    not beat this one is worth nothing.
    """

    name, gains = "camera mean", True

    def fit(self, task: Task, answers: Answers) -> None:
        """Takes the means."""
        self.means = PlaceMeans(task.gain(answers), answers.cameras)

    def score(self, task: Task, answers: Answers) -> Array:
        """The same for all frames of a camera; of a camera that calibration has not seen the mean over all cameras."""
        return self.means(answers.cameras)


class Oracle(Gate):
    """Knows the labels: by how much the metric of all samples changes if this unit alone is sent.

    It bounds what a gate can reach, and cannot operate.

    Args:
        metric: Which.
    """

    name, gains = "oracle", True

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def score(self, task: Task, answers: Answers) -> Array:
        """The gain, which may be negative."""
        return Judge(task, answers).marginal(self.metric)
