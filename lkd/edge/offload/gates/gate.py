"""What a gate is."""

from abc import ABC, abstractmethod
from typing import ClassVar

from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answers
from lkd.edge.offload.task import Task


class Gate(ABC):
    """Scores units by what the device knows of them; the highest are sent.

    Attributes:
        name: Of its rows in the report.
        task: Whose answers it can read, `"boxes"` or `"classes"`; empty for both.
        gains: Whether scores estimate what is gained, so that they can be divided by what it costs.
    """

    name: str
    task: ClassVar[str] = ""
    gains: ClassVar[bool] = False

    def fit(self, task: Task, answers: Answers) -> None:  # noqa: B027  most have nothing to learn
        """Learns from calibration data.

        Args:
            task: What the answers mean.
            answers: Of the calibration split, never of the test's.
        """

    @abstractmethod
    def score(self, task: Task, answers: Answers) -> Array:
        """Scores of all units, higher for what is to be sent: `(N, U)`.

        Args:
            task: What the answers mean.
            answers: Of a split, of which the student's alone are read.
        """

    def check(self, task: Task) -> None:
        """Refuses answers that it cannot read.

        Raises:
            ValueError: In one sentence.
        """
        if not isinstance(getattr(self, "name", None), str):
            raise ValueError(
                f"gate={type(self).__name__} has no name for its rows: give the class one, name = 'mine'."
            )
        if self.task and self.task != task.name:
            raise ValueError(
                f"gate={type(self).__name__} reads {self.task}, and this student answers with {task.name}: take another gate, such as Learned."
            )
