"""`Learned`: a regression on what the student knows of its own answer, taught what the teacher would bring."""

import numpy as np

from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answers
from lkd.edge.offload.gates.gate import Gate
from lkd.edge.offload.gates.ridge import Ridge
from lkd.edge.offload.task import Judge, Task


class Learned(Gate):
    """Estimates the gain of sending a unit by ridge regression.

    Its target is read from the teacher's own answers to calibration data, without labels: of detectors how many of its
    objects the student missed, of classifiers the accuracy that the teacher expects to add.

    Args:
        cameras: Whether it knows whose a sample is, and which tile. A new camera then gets the mean of all.
        labels: Whether its target is the metric's gain by the labels of the calibration data, which needs `labels=true`.
        metric: Which one, then.
    """

    name, gains = "learned", True

    def __init__(self, cameras: bool = True, labels: bool = False, metric: str | None = None) -> None:
        self.cameras, self.labels, self.metric = cameras, labels, metric

    def fit(self, task: Task, answers: Answers) -> None:
        """Regresses.

        Raises:
            ValueError: If labels are asked for that may not be read.
        """
        if self.labels and answers.truth is None:
            raise ValueError(
                "gate=Learned(labels=true) is taught by labels of the calibration data: give labels=true beside it, too."
            )
        wanted = (
            Judge(task, answers).marginal(self.metric or task.metrics[0])
            if self.labels
            else task.gain(answers)
        )
        self.known = sorted(set(answers.cameras)) if self.cameras else []
        x = self._inputs(task, answers)
        self.ridge = Ridge(x.reshape(-1, x.shape[-1]), wanted.reshape(-1))

    def score(self, task: Task, answers: Answers) -> Array:
        """The estimate."""
        x = self._inputs(task, answers)
        return self.ridge(x.reshape(-1, x.shape[-1])).reshape(x.shape[:2])

    def _inputs(self, task: Task, answers: Answers) -> Array:
        """Features, and which camera and place, if that tells anything: `(N, U, F)`."""
        x = task.features(answers)
        count, units = answers.nbytes.shape
        places = len(self.known) * units
        if places < 2:
            return x
        of = {name: place for place, name in enumerate(self.known)}
        rows = np.zeros((count, units, places))
        for n, name in enumerate(answers.cameras):
            if name in of:
                rows[n, np.arange(units), of[name] * units + np.arange(units)] = 1.0
        return np.concatenate([x, rows], 2)
