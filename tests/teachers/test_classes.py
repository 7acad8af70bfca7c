"""Classes of teacher and student: by name, and never silently by number."""

import warnings
from types import SimpleNamespace

import pytest
import torch

from lkd.teachers.classes import understand

COCO = ["person", "car", "truck"]


def teacher(names=None, count=3, classes=None):
    return SimpleNamespace(
        loaded=SimpleNamespace(class_names=names, num_classes=count), classes=classes, translation=None
    )


def student(names=None, count=1):
    return SimpleNamespace(class_names=names, num_classes=count)


def answers(one):
    """The student's class and the place of each of the teacher's three."""
    found = {
        "boxes": torch.arange(12.0).view(3, 4),
        "scores": torch.ones(3),
        "labels": torch.tensor([0, 1, 2]),
    }
    (moved,) = one.translation([found])
    return moved["labels"].tolist(), (moved["boxes"][:, 0] / 4).tolist()


@pytest.mark.parametrize("names", [["vehicle"], None])  # of one class nobody has to say the name
def test_several_classes_become_one_and_others_are_left_out(names):
    one = teacher(COCO, classes={"car": "vehicle", "truck": "vehicle"})
    understand(one, student(names))
    assert answers(one) == ([0, 0], [1, 2])


def test_the_same_names_in_another_order_are_matched():
    one = teacher(COCO)
    understand(one, student(["truck", "person", "car"], 3))
    assert answers(one) == ([1, 2, 0], [0, 1, 2])


@pytest.mark.parametrize(("theirs", "ours"), [(COCO, COCO), (None, None), (COCO, None)])
def test_what_is_the_same_or_one_class_stays(theirs, ours):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = teacher(theirs and theirs[:1], 1)
        understand(one, student(ours and ours[:1], 1))
        assert one.translation is None


def test_a_teacher_who_goes_on_to_another_student_answers_anew():
    one = teacher(COCO)
    understand(one, student(["truck", "person", "car"], 3))
    understand(one, student(COCO, 3))
    assert one.translation is None


@pytest.mark.parametrize(
    ("theirs", "ours", "classes", "message"),
    [
        (
            COCO,
            ["vehicle"],
            None,
            r"teacher's classes are .*student's \['vehicle'\]: say by Teacher\(classes=\.\.\.\)",
        ),
        (COCO, ["person", "car", "bus"], None, "say by Teacher"),  # as many, and not the same
        (COCO, ["vehicle"], {"lorry": "vehicle"}, r"\['lorry'\] are none of the teacher's classes"),
        (COCO, ["vehicle"], {"car": "van"}, r"\['van'\] are none of the student's classes \['vehicle'\]"),
        (None, ["vehicle"], {"car": "vehicle"}, r"nobody says those of the teacher's.*class_names"),
        (COCO, None, {"car": "car", "truck": "truck"}, "nobody says those of the student's"),
        (COCO[:2], ["vehicle"], {"car": "vehicle"}, "has 3 classes, but names 2 of them"),
        (None, ["vehicle"], None, "teacher has 3 classes, the student 1: .*by name.*class_map"),
    ],
)
def test_a_mix_is_refused(theirs, ours, classes, message):
    with pytest.raises(ValueError, match=message):
        understand(teacher(theirs, classes=classes), student(ours, len(ours) if ours else 2))


def test_what_nobody_can_know_is_said():
    with pytest.warns(UserWarning, match=r"how the 3 classes of teacher and student are called.*class_names"):
        understand(teacher(COCO), student(None, 3))
    understand(
        SimpleNamespace(loaded=torch.nn.Identity(), classes=None), student(None, 1)
    )  # says nothing at all
