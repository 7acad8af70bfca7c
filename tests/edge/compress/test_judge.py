"""What speaks against a stage."""

import warnings
from dataclasses import replace

import pytest

from lkd.edge.compress import Limits, QuantizationAware, Quantize
from lkd.edge.compress.judge import against, warn_of_a_vain_limit
from lkd.edge.compress.reference import Measures

from .test_order import Breaking, Mending

LIMITS = Limits(max_drop=0.01, max_ms=2.0, max_mb=1.0)


def measures(drop=0.0, mb=0.5, ms=1.0, of_start=0.5):
    return Measures("acc", 0.9, drop, mb, ms, ms, ms, of_start, of_start, 1.0, {}, {})


def test_quality_is_asked_of_every_stage_and_size_and_time_of_the_last_that_can_shrink():
    large = measures(drop=0.02, mb=3.0, ms=5.0)
    assert against(large, LIMITS, Breaking(), [Mending(), Quantize()], "0 parent") == [
        "worse by 0.0200, max_drop=0.01"
    ]
    assert len(against(large, LIMITS, Quantize(), [], "0 parent")) == 3
    assert len(against(large, LIMITS, Breaking(), [Mending()], "0 parent")) == 3


def test_a_file_alone_is_as_small_as_it_gets():
    """The training that may follow is another way to such a file: it does not go on from this one."""
    large = measures(mb=3.0)
    assert against(large, LIMITS, Quantize(), [QuantizationAware(1)], "0 parent") == ["3 MB, max_mb=1"]


@pytest.mark.parametrize("of_start", [0.5, 1.0, 1.02])
def test_as_fast_is_no_slower(of_start):
    assert against(measures(of_start=of_start), LIMITS, Quantize(), [], "2 recover") == []


def test_slower_is_named_unless_it_is_allowed():
    slow = measures(of_start=1.5)
    assert against(slow, LIMITS, Quantize(), [], "2 recover") == [
        "slower on this machine than 2 recover (1.50x)"
    ]
    assert against(slow, Limits(allow_slower=True), Quantize(), [], "2 recover") == []
    assert against(slow, LIMITS, Mending(), [], "2 recover") == []  # it changes weights alone


def test_a_limit_that_every_file_obeys_is_warned_of():
    poor = replace(measures(), value=0.004)
    with pytest.warns(
        UserWarning, match=r"has acc 0\.0040, so that a file that knows nothing obeys max_drop=0\.01"
    ):
        warn_of_a_vain_limit(poor, LIMITS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_a_vain_limit(measures(), LIMITS)
        warn_of_a_vain_limit(poor, Limits(max_drop=1.0))  # no limit is meant
        warn_of_a_vain_limit(replace(poor, metric="test_loss"), LIMITS)  # a small loss is a good one
