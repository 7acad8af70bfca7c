"""A choice of units, under a link: the ends are the student and the teacher, and a dead link is the student."""

import numpy as np
import pytest

from lkd.edge.offload.boxes import BoxTask
from lkd.edge.offload.classes import ClassTask
from lkd.edge.offload.link import Link
from lkd.edge.offload.trial import Conditions, Trial, mean_point
from lkd.metrics.average_precision import match, pooled

from .drawn import of_boxes, of_classes

FAST = Conditions(Link(8.0, rtt_ms=10))


def everything(test):
    return np.ones(test.nbytes.shape, bool)


def test_nothing_sent_is_the_student_and_everything_the_teacher():
    test = of_boxes()
    trial = Trial(BoxTask(), test, FAST)
    nothing = trial.point("a", ~everything(test))
    assert nothing.metrics == pooled([match(a, t) for a, t in zip(test.local, test.truth, strict=True)])
    assert (nothing.rate, nothing.units, nothing.kb, nothing.failed, nothing.server_ms) == (0,) * 5
    assert nothing.p50_ms == nothing.p95_ms == 5.0
    whole = trial.point("a", everything(test))
    assert whole.metrics == pooled([match(a[0], t) for a, t in zip(test.remote, test.truth, strict=True)])
    assert whole.rate == whole.units == 1.0 and whole.kb == pytest.approx(test.nbytes.mean() / 1e3)
    assert whole.server_ms == 20.0


def test_a_dead_link_leaves_the_student_and_is_counted():
    test = of_boxes()
    dead = Trial(BoxTask(), test, Conditions(Link(8.0, loss=1.0, deadline_ms=300)))
    found = dead.point("a", everything(test))
    alone = dead.point("a", ~everything(test))
    assert found.metrics == alone.metrics and found.failed == 1.0 and alone.failed == 0.0
    assert found.kb > 0 and found.p95_ms == 300.0


def test_a_late_answer_is_none():
    test = of_classes()
    trial = Trial(ClassTask(), test, Conditions(Link(8.0, rtt_ms=10, deadline_ms=30)))
    found = trial.point("a", everything(test))  # device 5, 2 to 9 ms up, 10 round, 20 at the server
    assert found.failed == 1.0 and found.metrics == trial.point("a", ~everything(test)).metrics


def test_latency_by_hand():
    test = of_classes()
    found = Trial(ClassTask(), test, FAST).point("a", everything(test))
    assert found.p50_ms == pytest.approx(np.median(5 + test.nbytes / 1e3 + 10 + 20))
    quick = Trial(ClassTask(), test, Conditions(Link(8.0, rtt_ms=10), server_speed=4, device_ms=1.0))
    assert quick.point("a", everything(test)).p50_ms == pytest.approx(
        np.median(1 + test.nbytes / 1e3 + 10 + 5)
    )


def test_frames_of_a_fast_camera_wait_for_each_other():
    test = of_boxes(cameras=("one",))
    slow = Link(0.5)
    alone, busy = (
        Trial(BoxTask(), test, Conditions(slow, fps)).point("a", everything(test)).p95_ms
        for fps in (None, 50)
    )
    assert busy > 5 * alone


def test_without_labels_there_are_no_metrics():
    test = of_boxes(labeled=False)
    assert Trial(BoxTask(), test, FAST).point("a", everything(test)).metrics == {}


@pytest.mark.parametrize("name", ["fps", "server_speed", "device_ms"])
def test_numbers_that_cannot_be(name):
    with pytest.raises(ValueError, match=f"{name}=0.0 must be above 0 and finite"):
        Conditions(Link(1.0), **{name: 0.0})


def test_the_mean_of_two_points():
    test = of_classes()
    trial = Trial(ClassTask(), test, FAST)
    ends = [trial.point("a", everything(test) & k) for k in (False, True)]
    both = mean_point(ends)
    assert both.arm == "a" and both.rate == 0.5 and both.kb == pytest.approx(ends[1].kb / 2)
    assert both.metrics["acc"] == pytest.approx((ends[0].metrics["acc"] + ends[1].metrics["acc"]) / 2)
