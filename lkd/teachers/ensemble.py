"""`Ensemble`: several teachers with their outputs side by side."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from lkd.teachers.teacher import Teacher


class Ensemble(Teacher):
    """Ensemble of teachers that gives their logits stacked, `(B, K, C)`, for `lkd.losses.MultiTeacher`.

    Nothing is averaged here; the loss decides how much each teacher counts. Each keeps its own weights,
    recipe, precision and batch size.

    As a `teacher_layer`, `""` is the stack of all outputs, `":logits"` that of an entry of dict outputs, and
    `"0.body.3"` the layer `body.3` of the first teacher alone, for a feature loss.

    Args:
        teachers: The teachers, over the same classes in the same order.

    Raises:
        ValueError: If there is no teacher.
        TypeError: If one is not a `Teacher`.

    Example:
        >>> ensemble = Ensemble([Teacher(nn.Linear(4, 3)), Teacher(nn.Linear(4, 3))])
        >>> ensemble(torch.ones(2, 4)).shape
        torch.Size([2, 2, 3])
    """

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        if not teachers:
            raise ValueError("teachers=[] names no teacher; give at least one.")
        for number, teacher in enumerate(teachers):
            if not isinstance(teacher, Teacher):
                raise TypeError(f"teachers[{number}] is a {type(teacher).__name__}; wrap it: Teacher(...).")
        super().__init__(nn.ModuleList(teachers))

    def prepare(self) -> "Ensemble":
        """Loads every teacher; one with a recipe and no checkpoint yet is trained first."""
        for teacher in self.teachers:
            teacher.prepare()
        return self

    @property
    def teachers(self) -> list[Teacher]:
        """The teachers, in order."""
        return list(cast(Any, self.model))

    def tapped(self, inputs: Any, layers: Sequence[str]) -> dict[str, Any]:
        """Returns the outputs of layers, of all teachers or of one.

        Args:
            inputs: The inputs, see `Teacher.tapped`.
            layers: Layer addresses, which may begin with the number of a teacher.

        Raises:
            ValueError: If there is no such layer or teacher, or the teachers' shapes differ.
            TypeError: If an output to be stacked is not a tensor.
        """
        places = {layer: self._place(layer) for layer in layers}
        outputs = []
        for number, teacher in enumerate(self.teachers):
            wanted = [name for place, name in places.values() if place in (None, number)]
            outputs.append(teacher.tapped(inputs, wanted) if wanted else {})
        return {
            layer: _stack([output[name] for output in outputs]) if place is None else outputs[place][name]
            for layer, (place, name) in places.items()
        }

    @property
    def asked(self) -> nn.Module:
        """The first teacher's model."""
        return self.teachers[0].asked

    def owner(self, address: str) -> tuple[nn.Module | None, str]:
        """Finds the teacher's model that has a layer; None for outputs of all teachers."""
        place, name = self._place(address)
        return (None, address) if place is None else self.teachers[place].owner(name)

    def detect(self, images: Any, cameras: Any = None) -> list[dict[str, Tensor]]:
        """Refuses to detect: detectors find different boxes, which cannot be stacked.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            "an Ensemble stacks class scores, and boxes cannot be stacked; give one detector: Teacher(...)."
        )

    def part(self, address: str) -> Callable[[Tensor], Any]:
        """Returns a part of one teacher as a function, such as `"0.head[2:]"`; see `Teacher.part`.

        Args:
            address: Number of the teacher, and the address of the part in it.

        Raises:
            ValueError: If there is no such part or teacher, or none is named.
        """
        place, name = self._place(address)
        if place is None:
            raise ValueError(f"rest={address!r} must begin with the number of a teacher, as in '0.head[2:]'.")
        return self.teachers[place].part(name)

    def _place(self, layer: str) -> tuple[int | None, str]:
        """Splits an address into the number of a teacher (None for all) and the layer's address in it."""
        if not layer or layer.startswith(":"):
            return None, layer
        number, _, name = layer.partition(".")
        if not number.isdecimal() or int(number) >= len(self.teachers):
            raise ValueError(
                f"teacher_layer={layer!r} must be '' or begin with the number of a teacher, 0 to "
                f"{len(self.teachers) - 1}, as in '0.body.3'."
            )
        return int(number), name


def _stack(outputs: list[Any]) -> Tensor:
    for number, output in enumerate(outputs):
        if not isinstance(output, Tensor):
            raise TypeError(
                f"teacher {number} gives a {type(output).__name__}, not a tensor of logits; name the entry to take, as "
                "in teacher_layer=':logits'."
            )
        if output.shape != outputs[0].shape:
            raise ValueError(
                f"teacher {number} gives {tuple(output.shape)} and teacher 0 {tuple(outputs[0].shape)}: the teachers "
                "of an ensemble need the same classes in the same order."
            )
    return torch.stack(outputs, 1)
