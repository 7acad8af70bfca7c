"""Boxes of two answers, paired by hand."""

import numpy as np
import pytest

from lkd.edge.matching import matched


def found(*boxes, labels=None):
    return {
        "boxes": np.array(boxes, float).reshape(-1, 4),
        "labels": np.array(labels or [0] * len(boxes), int),
    }


def test_each_box_has_one_partner():
    twice = found((0, 0, 10, 10), (0, 0, 10, 10))
    assert matched(twice, found((0, 0, 10, 10))) == 1
    assert matched(twice, twice) == 2


@pytest.mark.parametrize(("right", "pairs"), [(10, 1), (5, 1), (4.9, 0)])
def test_half_of_the_union_is_enough(right, pairs):
    assert matched(found((0, 0, 10, 10)), found((0, 0, right, 10))) == pairs


def test_another_class_is_another_thing_and_nothing_has_no_partner():
    assert matched(found((0, 0, 10, 10)), found((0, 0, 10, 10), labels=[1])) == 0
    assert matched(found(), found((0, 0, 10, 10))) == matched(found(), found()) == 0
