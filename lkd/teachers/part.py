"""A part of a teacher's model as a function, through which gradients flow to the student."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lkd.addresses import find_part
from lkd.teachers.precision import dtypes_of, running, to_own

if TYPE_CHECKING:
    from lkd.teachers.teacher import Teacher


def part_of(teacher: "Teacher", address: str) -> Callable[[Tensor], Any]:
    """Returns a part of a teacher's model, see `Teacher.part`.

    Args:
        teacher: The teacher, whose precision and weights' types hold.
        address: Address of the part.

    Raises:
        ValueError: If there is no such part.
    """
    part = find_part(teacher.loaded, address, "rest")

    def run(inputs: Tensor) -> Any:
        teacher.eval()  # nobody need have asked the whole
        try:
            dtypes = dtypes_of(teacher.loaded)
            with running(dtypes, teacher.precision, inputs.device.type):
                return part(to_own(dtypes, inputs))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise RuntimeError(
                f"rest={address!r} of the teacher failed on an input of shape {tuple(inputs.shape)}: {error}"
            ) from error

    return run
