"""`Learned`: a regression from what the student knows of its own answer to what the teacher would add."""

from collections.abc import Sequence

import numpy as np

from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answers
from lkd.edge.offload.gates.gate import Gate
from lkd.edge.offload.gates.places import PlaceMeans
from lkd.edge.offload.gates.ridge import Ridge
from lkd.edge.offload.task import Judge, OffloadTask


class Learned(Gate):
    """Gate that estimates the gain of sending a unit by ridge regression, from the usual gain at its place.

    `gain = b + m (w_0 + sum_j w_j (x_j + s_j) / (M_j + s_j))`, with the student's features x, their means M
    at this camera and unit, the mean gain m there, and the features' standard deviations s. With one place
    alone this is a regression on x.

    Its target comes from the teacher's own answers to calibration data, without labels. For detectors it is
    how much surer the teacher is of its objects than the student, for classifiers the accuracy that the
    teacher expects to add.

    Args:
        cameras: Whether the same place at two cameras counts as two places. A new camera gets the mean of
            all.
        labels: Whether the target is the metric's gain by the labels of the calibration data, which needs
            `labels=true`.
        metric: Metric of that gain. Default: the one that decides in the report.
    """

    name, gains = "learned", True

    def __init__(self, cameras: bool = True, labels: bool = False, metric: str | None = None) -> None:
        self.cameras, self.labels, self.metric = cameras, labels, metric
        self._decides: str | None = None

    def serve(self, metric: str) -> None:
        """Learns the gain of this metric, where it learns by labels and has none of its own."""
        self._decides = metric

    def check(self, task: OffloadTask) -> None:
        """Checks that it can read the answers of a task, and that the metric exists.

        Raises:
            ValueError: If it cannot read them, or for a metric that is not measured, or not used without
                labels.
        """
        super().check(task)
        if self.metric is not None and not self.labels:
            raise ValueError(
                f"gate=Learned(metric={self.metric!r}) is of labels, which it does not read: add labels=true, or leave it out."
            )
        if self.metric is not None and self.metric not in task.metrics:
            raise ValueError(
                f"gate=Learned(metric={self.metric!r}) is not among what is measured: {', '.join(task.metrics)}."
            )

    def fit(self, task: OffloadTask, answers: Answers) -> None:
        """Fits the regression on calibration data.

        Raises:
            ValueError: If labels are needed that may not be read.
        """
        if self.labels and answers.truth is None:
            raise ValueError(
                "gate=Learned(labels=true) is taught by labels of the calibration data: give labels=true beside it, too."
            )
        wanted = (
            Judge(task, answers).marginal(self.metric or self._decides or task.metrics[0])
            if self.labels
            else task.gain(answers)
        )
        x, cameras = task.features(answers), self._cameras(answers)
        self.usual, self.gain = PlaceMeans(x, cameras), PlaceMeans(wanted, cameras)
        spread = x.std((0, 1))
        self.spread = np.where(spread > 1e-9, spread, 1.0)
        inputs = self._inputs(x, cameras)
        self.ridge = Ridge(inputs.reshape(-1, inputs.shape[-1]), wanted.reshape(-1))

    def score(self, task: OffloadTask, answers: Answers) -> Array:
        """Returns the estimated gain of each unit."""
        x = self._inputs(task.features(answers), self._cameras(answers))
        return self.ridge(x.reshape(-1, x.shape[-1])).reshape(x.shape[:2])

    def _inputs(self, x: Array, cameras: Sequence[str]) -> Array:
        """Returns each place's gain, and its products with features relative to means: `(N, U, 1 + F)`."""
        gain = self.gain(cameras)[..., None]
        return np.concatenate([gain, gain * (x + self.spread) / (self.usual(cameras) + self.spread)], 2)

    def _cameras(self, answers: Answers) -> Sequence[str]:
        return answers.cameras if self.cameras else [""] * len(answers)
