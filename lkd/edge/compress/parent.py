"""The dense student as teacher of its compressed stages."""

from lightning.pytorch import LightningModule
from torch import nn

from lkd.teachers import Teacher
from lkd.teachers.frozen import frozen
from lkd.teachers.precision import Precision


class Parent(Teacher):
    """Teacher that stands for the dense student of `compress`, in a `Distillation` of `Recover`.

    On detection data it is shown the student's picture, which it was trained on, and not the teacher's
    picture.

    Args:
        precision: As in `Teacher`.
        batch_size: As in `Teacher`.

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
        """Uses this module as the teacher from now on, and freezes it.

        Args:
            module: A copy of the dense student.
        """
        self.model = frozen(module, self.precision)
        self._known = True

    def prepare(self) -> "Parent":
        """Checks that the dense student is there; nothing has to be loaded.

        Raises:
            ValueError: Outside of `compress`.
        """
        if not self._known:
            raise ValueError(
                "Parent() is the dense student that compress was given, and there is none here: give a Teacher of your own."
            )
        return self
