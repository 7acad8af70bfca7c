import warnings

import pytest

from lkd.datamodules.io.left_out import LeftOut


def test_the_same_is_not_said_twice():
    left_out = LeftOut()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        left_out.say("a reader")  # nothing
        for place in ("a.txt", "a.txt", "b.txt"):
            left_out.add("rows", place)
            left_out.classes["bike"] += 2
            left_out.say("a reader")
    assert [str(one.message) for one in said] == [
        "a reader left out 1 rows (such as a.txt), 2 objects of other classes (bike 2).",
        "a reader left out 1 rows (such as b.txt), 2 objects of other classes (bike 2).",
    ]


def test_a_choice_that_nothing_is_of():
    left_out = LeftOut()
    left_out.check_classes("classes={}", 0)  # no object of any class
    left_out.classes.update({"Person": 3, "dog": 1})
    left_out.check_classes("classes={}", 1)
    with pytest.raises(ValueError, match=r"classes=\{\} leaves no object at all: .* of Person 3, dog 1"):
        left_out.check_classes("classes={}", 0)
