"""What differs between tasks: which answer stands, how good it is, what the teacher brings, what the student knows of itself."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answer, Answers


class Task(ABC):
    """Boxes or classes.

    Attributes:
        name: Such as `"boxes"`.
        metrics: Names of what is measured, the first one decides unless another is asked for; all rise.
    """

    name: ClassVar[str]
    metrics: ClassVar[Sequence[str]]

    @abstractmethod
    def stands(self, answers: Answers, sample: int, sent: Array) -> Answer:
        """The answer that stands in the end.

        Args:
            answers: Of a split.
            sample: Which.
            sent: `(U,)` bool, the units that the server has answered.
        """

    @abstractmethod
    def judged(self, answer: Answer, truth: Answer) -> Any:
        """What of one answer goes into the metrics."""

    @abstractmethod
    def pooled(self, judged: Sequence[Any]) -> dict[str, float]:
        """The metrics of all samples."""

    @abstractmethod
    def marginal(self, judged: Sequence[Any], other: Sequence[Sequence[Any]], metric: str) -> Array:
        """By how much the metric of all samples changes if one unit alone is answered by the server.

        Args:
            judged: Of N local answers.
            other: Of those that stand if unit u of sample n is sent: N times U.
            metric: One of `metrics`.

        Returns:
            `(N, U)`.
        """

    @abstractmethod
    def gain(self, answers: Answers) -> Array:
        """What the teacher would bring, seen from its own answers, without labels: `(N, U)`, not negative."""

    @abstractmethod
    def features(self, answers: Answers) -> Array:
        """What the student knows of its own answers, for a regression: `(N, U, F)`."""


class Judge:
    """Metrics of a split, for any choice of what is sent. What one choice of a sample's units gives is worked out once.

    Args:
        task: Of the split.
        answers: With their truth.
    """

    def __init__(self, task: Task, answers: Answers) -> None:
        assert answers.truth is not None
        self.task, self.answers, self.truth = task, answers, answers.truth
        self._known: dict[tuple[int, bytes], Any] = {}

    def __call__(self, sent: Array) -> dict[str, float]:
        """The metrics, if the server has answered the units `sent (N, U)`."""
        return self.task.pooled([self._judged(n, row) for n, row in enumerate(sent)])

    def marginal(self, metric: str) -> Array:
        """See `Task.marginal`, in the context of local answers."""
        count, units = self.answers.nbytes.shape
        local = [self._judged(n, np.zeros(units, bool)) for n in range(count)]
        other = [[self._judged(n, row) for row in np.eye(units, dtype=bool)] for n in range(count)]
        return self.task.marginal(local, other, metric)

    def _judged(self, sample: int, sent: Array) -> Any:
        key = sample, sent.tobytes()
        if key not in self._known:
            stands = self.task.stands(self.answers, sample, sent)
            self._known[key] = self.task.judged(stands, self.truth[sample])
        return self._known[key]
