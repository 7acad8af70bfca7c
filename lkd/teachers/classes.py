"""Translation of a teacher's classes to a student's, by names and never silently by numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

Detections = list[dict[str, Tensor]]


class Translation:
    """Translation of a teacher's labels to a student's; objects of other classes are left out.

    Args:
        numbers: The student's class for each class of the teacher, or -1.

    Example:
        >>> found = {"boxes": torch.eye(4)[:2], "scores": torch.ones(2), "labels": torch.tensor([0, 2])}
        >>> Translation([-1, 1, 0])([found])[0]["labels"]
        tensor([0])
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        self.numbers = torch.tensor(list(numbers), dtype=torch.int64)

    def __call__(self, found: Detections) -> Detections:
        """Translates detections into the student's classes."""
        moved = []
        for one in found:
            labels = self.numbers.to(one["labels"].device)[one["labels"].long()]
            moved.append({k: v[labels >= 0] for k, v in {**one, "labels": labels}.items()})
        return moved


def by_name(theirs: Sequence[str], ours: Sequence[str], classes: Mapping[str, str]) -> Translation:
    """Matches a teacher's classes with a student's by name.

    Args:
        theirs: Names of the teacher's classes, in order.
        ours: Names of the student's classes, in order.
        classes: The student's name for the teacher's name; classes of the teacher that are missing are left
            out.

    Raises:
        ValueError: If a name is not among the teacher's or the student's classes.

    Example:
        >>> by_name(["person", "car", "truck"], ["vehicle"], {"car": "vehicle", "truck": "vehicle"}).numbers.tolist()
        [-1, 0, 0]
    """
    for side, names, known in (("teacher", classes, theirs), ("student", classes.values(), ours)):
        if unknown := [name for name in names if name not in known]:
            raise ValueError(
                f"classes={dict(classes)}: {unknown} are none of the {side}'s classes {list(known)}."
            )
    return Translation([ours.index(classes[name]) if name in classes else -1 for name in theirs])


def understand(teacher: Any, student: Any) -> None:
    """Makes a teacher answer in a student's classes, from now on.

    Args:
        teacher: A prepared `Teacher`, with its user's `classes`.
        student: A module that may have `num_classes` and `class_names`.

    Raises:
        ValueError: If their classes are known to differ, and no translation is given.
    """
    theirs, ours = names_of(teacher.loaded), names_of(student)
    counts = count_of(teacher.loaded), count_of(student)
    classes: Mapping[str, str] | None = teacher.classes
    teacher.translation = None  # it may be that of another student
    if theirs and counts[0] not in (None, len(theirs)):
        raise ValueError(
            f"the teacher has {counts[0]} classes, but names {len(theirs)} of them: {_short(theirs)}."
        )
    if classes is not None:
        targets = list(dict.fromkeys(classes.values()))
        if ours is None and len(targets) == 1 == counts[1]:
            ours = targets
        for side, names in (("teacher", theirs), ("student", ours)):
            if names is None:
                raise ValueError(
                    f"classes={dict(classes)} goes by names, and nobody says those of the {side}'s classes: give "
                    "Detector(class_names=[...])."
                )
        assert theirs is not None and ours is not None
        teacher.translation = by_name(theirs, ours, classes)
    elif theirs and ours and theirs != ours:
        if set(theirs) != set(ours):
            raise ValueError(
                f"the teacher's classes are {_short(theirs)}, the student's {_short(ours)}: say by Teacher(classes=...) what "
                f"they are to the student, such as {{{theirs[0]!r}: {ours[0]!r}}}; others are left out."
            )
        teacher.translation = by_name(theirs, ours, {name: name for name in theirs})
    elif None not in counts and counts[0] != counts[1]:
        raise ValueError(
            f"the teacher has {counts[0]} classes, the student {counts[1]}: bring the teacher's to the student's by name, "
            "Teacher(classes={'car': 'vehicle'}), or weights of YOLO by a class_map, such as {2: 0, 5: 0, 7: 0}."
        )
    elif (counts[1] or 1) > 1 and not (theirs and ours):
        rank_zero_warn(
            f"Nobody says how the {counts[1]} classes of teacher and student are called, so they are taken to be the same in "
            "the same order: Detector(class_names=[...]) of both makes sure."
        )


def require_one_list(students: Sequence[Any]) -> None:
    """Raises ValueError if students of one teacher, which has one list of classes, have different ones.

    Example:
        >>> from types import SimpleNamespace
        >>> require_one_list([SimpleNamespace(class_names=["car"]), SimpleNamespace(class_names=["van"])])
        Traceback (most recent call last):
        ...
        ValueError: a teacher answers in one list of classes, but its students have ['car'] and ['van'].
    """
    lists: list[list[str]] = []
    for names in filter(None, map(names_of, students)):
        if names not in lists:
            lists.append(names)
    if len(lists) > 1:
        raise ValueError(
            f"a teacher answers in one list of classes, but its students have {' and '.join(map(_short, lists))}."
        )


def names_of(model: Any) -> list[str] | None:
    """Returns the names of a model's classes, if it has them."""
    return getattr(model, "class_names", None) or None


def count_of(model: Any) -> int | None:
    """Returns the number of classes, if the model or its hyperparameters tell it."""
    return getattr(model, "num_classes", getattr(model, "hparams", {}).get("num_classes"))


def _short(names: Sequence[str]) -> str:
    return f"{list(names)}" if len(names) < 9 else f"{list(names[:6])} and {len(names) - 6} more"
