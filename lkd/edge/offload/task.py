"""The differences between tasks: which answer stands, how good it is, and what the teacher adds."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answer, Answers


class OffloadTask(ABC):
    """A task: boxes or classes.

    Attributes:
        name: Name such as `"boxes"`.
        metrics: Names of the metrics. The first one decides unless another is asked for; higher is better in
            all.
    """

    name: ClassVar[str]
    metrics: ClassVar[Sequence[str]]

    @abstractmethod
    def stands(self, answers: Answers, sample: int, sent: Array) -> Answer:
        """Returns the answer that stands in the end.

        Args:
            answers: Answers on a split.
            sample: Number of the sample.
            sent: `(U,)` bool, the units that the server has answered.
        """

    @abstractmethod
    def judged(self, answer: Answer, truth: Answer) -> Any:
        """Returns what the metrics need of one answer."""

    @abstractmethod
    def pooled(self, judged: Sequence[Any]) -> dict[str, float]:
        """Returns the metrics of all samples."""

    @abstractmethod
    def marginal(self, judged: Sequence[Any], other: Sequence[Sequence[Any]], metric: str) -> Array:
        """Returns the change of the metric of all samples if one unit alone is answered by the server.

        Args:
            judged: What the metrics need of N local answers.
            other: The same of those that stand if unit u of sample n is sent: N times U.
            metric: One of `metrics`.

        Returns:
            The changes `(N, U)`.
        """

    @abstractmethod
    def gain(self, answers: Answers) -> Array:
        """Estimates from the teacher's answers, without labels, what it would add: `(N, U)`, not negative."""

    @abstractmethod
    def features(self, answers: Answers) -> Array:
        """Returns what the student knows of its own answers, for a regression: `(N, U, F)`."""


class Judge:
    """Metrics of a split for any choice of what is sent; each choice of a sample's units is judged only once.

    Args:
        task: Task of the split.
        answers: Answers with their truth.
    """

    def __init__(self, task: OffloadTask, answers: Answers) -> None:
        assert answers.truth is not None
        self.task, self.answers, self.truth = task, answers, answers.truth
        self._known: dict[tuple[int, int, bytes], Any] = {}

    def __call__(self, sent: Array, by: Array | None = None) -> dict[str, float]:
        """Returns the metrics if the server has answered the units `sent (N, U)`.

        Sample n has the answer that stands for sample `by[n]`, `(N,)`. Default: its own.
        """
        givers = range(len(sent)) if by is None else by.tolist()
        return self.task.pooled([self._judged(n, giver, sent[giver]) for n, giver in enumerate(givers)])

    def marginal(self, metric: str) -> Array:
        """Returns the change of the metric if one unit alone is sent and all other answers are local."""
        count, units = self.answers.nbytes.shape
        local = [self._judged(n, n, np.zeros(units, bool)) for n in range(count)]
        other = [[self._judged(n, n, row) for row in np.eye(units, dtype=bool)] for n in range(count)]
        return self.task.marginal(local, other, metric)

    def _judged(self, sample: int, giver: int, sent: Array) -> Any:
        key = sample, giver, sent.tobytes()
        if key not in self._known:
            stands = self.task.stands(self.answers, giver, sent)
            self._known[key] = self.task.judged(stands, self.truth[sample])
        return self._known[key]
