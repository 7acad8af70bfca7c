"""The dense student as the teacher of what it becomes."""

from lightning.pytorch import LightningModule
from torch import nn

from lkd.teachers import Teacher
from lkd.teachers.precision import Precision


class Parent(Teacher):
    """Stands for the dense student, which `compress` was given, in a `Distillation` of `Recover`.

    Of detection data it is shown the student's picture, which it was trained on, and not the one that they have for a teacher.

    Args:
        precision: As of `Teacher`.
        batch_size: As of `Teacher`.

    Example:
        >>> Parent().become(nn.Linear(4, 3))
        >>> Parent().prepare()
        Traceback (most recent call last):
        ...
        ValueError: Parent() is the dense student that compress was given, and there is none here: ...
    """

    sees_student_view = True

    def __init__(self, precision: Precision | None = None, batch_size: int | None = None) -> None:
        super().__init__(nn.Identity(), precision=precision, batch_size=batch_size)
        self._known = False

    def become(self, module: LightningModule | nn.Module) -> None:
        """Teaches by this module from now on, which is frozen.

        Args:
            module: A copy of the dense student.
        """
        self._take(module)
        self._known = True

    def prepare(self) -> "Parent":
        """Nothing is to be loaded.

        Raises:
            ValueError: Outside of `compress`.
        """
        if not self._known:
            raise ValueError(
                "Parent() is the dense student that compress was given, and there is none here: give a Teacher of your own."
            )
        return self
