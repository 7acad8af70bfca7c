"""Limits of a file."""

import os

import pytest

from lkd.edge.compress import Limits, Quantize
from lkd.edge.compress.limits import check_reachable


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_mb": 0}, r"max_mb=0 must be above 0 and finite.*no file could meet it"),
        ({"max_ms": -1}, "max_ms=-1 must be above 0"),
        ({"max_ms": float("nan")}, "max_ms=nan must be above 0"),
        ({"max_drop": -0.1}, "max_drop=-0.1 must be"),
        ({"threads": 0}, "threads=0 must be 1 or more"),
        ({"max_ms": 5, "threads": 10_000}, "max_ms=5 and threads=10000 contradict each other"),
    ],
)
def test_limits_that_nothing_obeys_are_refused(limits, message):
    with pytest.raises(ValueError, match=message):
        Limits(**limits)


def test_limits_that_may_be():
    Limits(max_drop=0, max_ms=None, max_mb=0.01)
    Limits(max_ms=5, threads=os.cpu_count())
    Limits(threads=10_000)  # nothing is asked of the time


def test_a_size_that_no_step_reaches_contradicts_the_steps():
    with pytest.raises(
        ValueError, match=r"max_mb=3 contradicts the steps: 1,000,000 parameters of 32 bits are 4 MB"
    ):
        check_reachable(Limits(max_mb=3), [], 1_000_000)
    check_reachable(Limits(max_mb=3), [Quantize()], 1_000_000)
    with pytest.raises(ValueError, match="8 bits are 1 MB"):
        check_reachable(Limits(max_mb=0.9), [Quantize()], 1_000_000)


def test_what_is_broken_is_said():
    limits = Limits(max_drop=0.01, max_ms=2, max_mb=3)
    assert limits.broken(0.01, 2.0, 3.0) == [] == limits.broken(-1.0, 0.1, 0.1)
    assert limits.broken(0.02, 2.5, 3.5) == [
        "worse by 0.0200, max_drop=0.01",
        "2.5 ms, max_ms=2",
        "3.5 MB, max_mb=3",
    ]
    assert limits.spoiled(float("nan"))
