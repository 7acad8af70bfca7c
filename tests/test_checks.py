"""The range check: its sentence, for numbers and for what is none."""

import math

import pytest

from lkd.checks import expect


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"islands": [4, 4], "ge": 1}, TypeError, r"islands=\[4, 4\] must be a number, 1 or more\."),
        ({"share": "half", "gt": 0, "le": 1}, TypeError, r"share='half' must be a number, in \(0, 1\]\."),
        ({"rank": None, "ge": 1}, TypeError, "rank=None must be a number, 1 or more"),
        ({"limit": [], "ge": 1, "none": "no limit"}, TypeError, "a number, 1 or more, or None for no limit"),
        ({"kind": ["a"], "among": {"a", "b"}}, TypeError, r"kind=\['a'\] must be 'a' or 'b'|'b' or 'a'"),
        ({"lr": math.nan, "gt": 0}, ValueError, "lr=nan must be above 0"),
        ({"lr": math.inf, "gt": 0, "lt": math.inf}, ValueError, "lr=inf must be above 0 and finite"),
    ],
)
def test_what_does_not_fit_is_one_sentence(arguments, error, message):
    with pytest.raises(error, match=message):
        expect(**arguments)


def test_what_fits_passes():
    expect(ge=1, le=2, first=1, second=2.0)
    expect(none="no limit", ge=1, limit=None)
