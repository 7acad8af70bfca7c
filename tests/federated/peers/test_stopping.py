"""Each condition of the meta-stopping rule, at its bounds."""

import math

import pytest

from lkd.federated import MetaStopping

FLAT = [1.0] * 60


def rising(rounds, by=0.1, start=1.0):
    return [start + by * t for t in range(rounds + 1)]


def falling(rounds, by=0.1, start=10.0):
    return [start * (1 - by) ** t for t in range(rounds + 1)]


def test_a_client_that_learns_goes_on_until_the_most_rounds():
    rule = MetaStopping()
    assert rule.reason([1.0], [1.0]) == ""
    assert rule.reason(falling(39), falling(39)) == ""
    assert rule.reason(falling(40), falling(40)) == "most"


def test_degraded_for_five_rounds_running():
    """L falls to 1, then stays 3 % above it; L_meta rises along, so that nothing else holds."""
    meta = rising(12)
    own = [2.0, 1.5, 1.0]
    assert MetaStopping().reason([*own, *[1.03] * 4], meta[:7]) == ""
    assert MetaStopping().reason([*own, *[1.03] * 5], meta[:8]) == "degraded"
    assert MetaStopping().reason([*own, *[1.019] * 5], meta[:8]) == ""
    assert MetaStopping(degradation=0.01).reason([*own, *[1.019] * 5], meta[:8]) == "degraded"
    broken = [*own, 1.03, 1.03, 1.03, 1.01, 1.03, 1.03, 1.03]
    assert MetaStopping().reason(broken, meta[:10]) == ""


def test_the_degradation_is_against_the_best_not_the_last_or_the_first():
    meta = rising(12)
    assert (
        MetaStopping().reason([2.0, 1.0, 1.5, 1.4, 1.3, 1.2, 1.1], meta[:7]) == "degraded"
    )  # falls in every round
    assert MetaStopping().reason([2.0, 1.9, 1.8, 1.7, 1.6, 1.5], meta[:6]) == ""


def test_overfits_for_four_rounds_running():
    rule = MetaStopping()
    tiny = rising(6, by=1e-4)
    assert rule.reason(tiny[:4], falling(3)) == ""
    assert rule.reason(tiny[:5], falling(4)) == "overfits"
    assert rule.reason(tiny[:5], rising(4)) == ""  # both rise
    assert rule.reason(tiny[:5], [2.0, 2.1, 2.0, 1.9, 1.8]) == ""  # not in the first of them
    assert rule.reason(tiny[:5], [3.0, 2.0, 2.0, 1.0, 1.0]) == "overfits"  # what stays has not risen
    assert rule.reason(falling(4), rising(4)) == ""


def test_still_for_four_rounds_running():
    rule = MetaStopping()
    small, large = [1.0, 0.985, 0.97, 0.956, 0.942], [1.0, 0.97, 0.94, 0.91, 0.88]
    assert rule.reason(small, small) == "still"
    assert rule.reason(small[:4], small[:4]) == ""
    assert rule.reason(small, large) == rule.reason(large, small) == ""
    assert MetaStopping(change=0.05).reason(small, large) == "still"
    assert rule.reason([100 * v for v in small], small) == "still"  # changes are relative
    assert rule.reason([0.5 - 0.015 * t for t in range(5)], small) == ""


def test_rounds_in_which_no_neighbor_measured_are_neither_rise_nor_standstill():
    unknown = [math.nan] * 5
    assert MetaStopping().reason(rising(4, by=1e-4), unknown) == ""
    assert MetaStopping().reason(FLAT[:5], unknown) == ""
    assert MetaStopping().reason(rising(6), [math.nan] * 7) == "degraded"


@pytest.mark.parametrize("name", ["degraded", "rising", "still", "most"])
def test_numbers_out_of_range_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}=0 must be 1 or more"):
        MetaStopping(**{name: 0})
    with pytest.raises(ValueError, match="change=-1 must be 0 or more"):
        MetaStopping(change=-1)
