"""`Gate`, the base class of gates, which score what to send."""

from abc import ABC, abstractmethod
from typing import ClassVar

from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answers
from lkd.edge.offload.task import OffloadTask


class Gate(ABC):
    """Gate that scores units by what the device knows of them; the highest are sent.

    Attributes:
        name: Name of its rows in the report.
        task: Task whose answers it can read, `"boxes"` or `"classes"`; empty for both.
        gains: Whether scores estimate a gain, so that they can be divided by its cost.
    """

    name: str
    task: ClassVar[str] = ""
    gains: ClassVar[bool] = False

    def serve(self, metric: str) -> None:  # noqa: B027  most do not ask
        """Is told the metric that decides in the report, before it learns."""

    def fit(self, task: OffloadTask, answers: Answers) -> None:  # noqa: B027  most have nothing to learn
        """Learns from calibration data.

        Args:
            task: What the answers mean.
            answers: Answers on the calibration split, never the test split.
        """

    @abstractmethod
    def score(self, task: OffloadTask, answers: Answers) -> Array:
        """Returns scores `(N, U)` of all units, higher for those to send.

        Args:
            task: What the answers mean.
            answers: Answers on a split, of which only the student's are read.
        """

    def check(self, task: OffloadTask) -> None:
        """Checks that it can read the answers of a task.

        Raises:
            ValueError: If it cannot; the message says why in one sentence.
        """
        if not isinstance(getattr(self, "name", None), str):
            raise ValueError(
                f"gate={type(self).__name__} has no name for its rows: give the class one, name = 'mine'."
            )
        if self.task and self.task != task.name:
            raise ValueError(
                f"gate={type(self).__name__} reads {self.task}, and this student answers with {task.name}: take another gate, such as Learned."
            )
