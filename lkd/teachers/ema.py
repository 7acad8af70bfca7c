"""The mean teacher: a moving average of the student that it teaches."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from lkd.checks import expect
from lkd.copies import copied
from lkd.teachers.teacher import Teacher


class EMATeacher(Teacher):
    """A copy of the student whose weights follow the student's as an exponential moving average.

    After optimizer step t = 1, 2, ...: `average = d_t average + (1 - d_t) current` with
    `d_t = min(decay, 1 - 1 / (t + 1))`. So after the first steps it is the plain mean of the weights so far,
    including the initial ones. Float buffers (batch statistics) are averaged too, integer buffers are copied,
    and the teacher runs in eval mode.

    Tarvainen and Valpola: Mean teachers are better role models, NeurIPS 2017, arXiv:1703.01780, Section 2;
    the start of the decay is that of the authors' code, in which the teacher runs in train mode and only
    parameters are averaged.

    The callback `lkd.callbacks.MeanTeacher` does all this; in a loop of your own, call `update` after every
    step.

    Args:
        student: The model to follow, which is copied in its present state.
        decay: The final decay, in [0, 1). Default .999.
        precision: Precision of the teacher, see `Teacher`; not `"int8"`.
        batch_size: Largest number of samples in one forward, see `Teacher`.

    Raises:
        ValueError: For a decay out of its range.

    Example:
        >>> student = nn.Linear(1, 1, bias=False)
        >>> _ = student.weight.data.fill_(0.0)
        >>> teacher = EMATeacher(student, decay=0.9)
        >>> for value in (4.0, 8.0):
        ...     _ = student.weight.data.fill_(value)
        ...     teacher.update(student)
        ...     print(teacher(torch.ones(1, 1)).item())  # the means of 0 and 4, and of 0, 4 and 8
        2.0
        4.0
    """

    def __init__(
        self,
        student: nn.Module,
        decay: float = 0.999,
        precision: Literal["32", "bf16"] | None = None,
        batch_size: int | None = None,
    ) -> None:
        expect(decay=decay, ge=0, lt=1)
        super().__init__(copied(student, "student"), precision=precision, batch_size=batch_size)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Moves the average towards the student; layers that it has gained since are ignored."""
        self.updates += 1
        decay = min(self.decay, 1 - 1 / (self.updates + 1))
        theirs = _values(student)
        for name, mine in _values(self.loaded).items():
            current = theirs[name].to(mine)  # the student may be in double precision by now
            if mine.is_floating_point():
                mine.lerp_(current, 1 - decay)
            else:
                mine.copy_(current)

    @torch.no_grad()
    def start(self, student: nn.Module) -> None:
        """Takes the student's present values, and counts updates from 0."""
        self.updates = 0
        theirs = _values(student)
        for name, mine in _values(self.loaded).items():
            mine.copy_(theirs[name])

    def saved(self) -> dict[str, Any]:
        """Returns the average and its number of updates, for a checkpoint."""
        return {"average": self.loaded.state_dict(), "updates": self.updates}

    def restore(self, saved: dict[str, Any]) -> None:
        """Restores what `saved` returned."""
        self.loaded.load_state_dict(saved["average"])
        self.updates = saved["updates"]


def _values(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
