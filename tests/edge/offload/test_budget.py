"""A budget becomes a threshold on calibration data, or is refused with what is nearest."""

from dataclasses import replace

import numpy as np
import pytest

from lkd.edge.offload.answers import Answers
from lkd.edge.offload.budget import Budget
from lkd.edge.offload.classes import ClassTask
from lkd.edge.offload.gates import Entropy
from lkd.edge.offload.link import Link
from lkd.edge.offload.trial import Conditions, Trial

from .drawn import of_classes


@pytest.fixture
def trial():
    return Trial(ClassTask(), of_classes(), Conditions(Link(8.0, rtt_ms=10), fps=2.0))


def choose(trial, **asked):
    budget = Budget(**asked)
    return budget, budget.choose(Entropy().score(trial.task, trial.answers), trial, "acc")


@pytest.mark.parametrize(
    ("asked", "value"),
    [("rate", 0.25), ("kb", 1.5), ("kb_per_second", 3.0), ("mb_per_day", 300.0), ("p95_ms", 37.0)],
)
def test_as_much_as_is_allowed_and_no_more(trial, asked, value):
    budget, chosen = choose(trial, **{asked: value})
    spent = budget.of(chosen.calibration, "acc", 2.0)
    scores = Entropy().score(trial.task, trial.answers)
    more = trial.point("a", scores >= np.sort(scores[scores < chosen.threshold])[-1])
    assert spent <= value < budget.of(more, "acc", 2.0)
    assert chosen.calibration.units >= 0.05


def test_units_of_rates_agree(trial):
    _, point = choose(trial, kb=1.5)
    found = [b.of(point.calibration, "acc", 2.0) for b in (Budget(kb_per_second=1.0), Budget(mb_per_day=1.0))]
    assert found == pytest.approx([point.calibration.kb * 2, point.calibration.kb * 2 * 86_400 / 1e3])


def test_as_little_as_reaches_the_metric(trial):
    _, chosen = choose(trial, reach=0.9)
    scores = Entropy().score(trial.task, trial.answers)
    assert chosen.calibration.metrics["acc"] >= 0.9
    assert trial.point("a", scores > chosen.threshold).metrics["acc"] < 0.9


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"rate": 0.001},
            r"budget\.rate=0\.001 is met by no threshold .*: the nearest has 0\.005 of the samples",
        ),
        ({"kb": 0.001}, r"budget\.kb=0\.001 is met by no threshold .*: the nearest has 0\.0\d+ kB a sample"),
        ({"p95_ms": 1.0}, r"budget\.p95_ms=1 is met by no threshold .*: the nearest has 5 ms"),
    ],
)
def test_what_nothing_meets(trial, asked, message):
    with pytest.raises(ValueError, match=message):
        choose(trial, **asked)


def test_equal_scores_that_a_budget_cannot_meet_are_said(trial):
    scores = np.zeros((len(trial.answers), 1))
    scores[:60] = 0.5
    with pytest.raises(
        ValueError, match=r"sends 30\.0% of the units\. 60 of 200 units share the highest score, 0\.5, so"
    ):
        Budget(rate=0.2).choose(scores, trial, "acc")
    scores[0] = 0.6
    assert Budget(rate=0.2).choose(scores, trial, "acc").threshold == 0.6
    with pytest.raises(ValueError, match=r"sends 0\.5% of the units\.$"):
        Budget(rate=0.001).choose(scores, trial, "acc")


def test_a_metric_that_nothing_reaches():
    made = of_classes()
    worse = Trial(ClassTask(), Answers(made.local, [[one] for one in made.local], made.sizes, made.nbytes,
                  made.device_ms, made.server_ms, made.cameras, made.truth), Conditions(Link(8.0)))  # fmt: skip
    with pytest.raises(
        ValueError, match=r"budget\.reach=0\.99 is met by no threshold .*: the nearest has 0\.\d+, and"
    ):
        choose(worse, reach=0.99)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "budget says nothing, and takes exactly one of rate, kb"),
        ({"rate": 0.1, "kb": 3.0}, "budget says rate=0.1, kb=3, and takes exactly one"),
        ({"rate": 0.0}, r"budget\.rate=0 must be above 0 and at most 1"),
        ({"rate": 1.5}, r"budget\.rate=1\.5 must be above 0 and at most 1"),
        ({"p95_ms": -2.0}, r"budget\.p95_ms=-2 must be above 0\."),
        ({"kb": float("nan")}, r"budget\.kb=nan must be above 0\."),
    ],
)
def test_budgets_that_cannot_be(asked, message):
    with pytest.raises(ValueError, match=message):
        Budget(**asked)


def test_what_a_budget_needs():
    with pytest.raises(ValueError, match=r"budget\.kb_per_second=3 needs fps"):
        Budget(kb_per_second=3.0).check(None, False)
    with pytest.raises(ValueError, match=r"budget\.reach=0\.9 .* allow it by labels=true"):
        Budget(reach=0.9).check(1.0, False)
    Budget(rate=0.3).check(None, False)


def test_what_was_asked_stands_beside_what_came_of_it(trial):
    budget, chosen = choose(trial, rate=0.25)
    said = budget.said(chosen.calibration, trial.point("a", np.ones((200, 1), bool)), "acc", None)
    assert said == "Budget rate: 0.25 of the samples asked, 0.25 on calibration data, 1 on test data."


def test_no_camera_may_send_more_than_each_may():
    """One that sends everything is not made good by one that sends nothing."""
    made = replace(of_classes(count=100), cameras=["far"] * 50 + ["near"] * 50)
    made = replace(made, nbytes=np.full((100, 1), 1000))
    trial = Trial(ClassTask(), made, Conditions(Link(8.0), fps=2.0))
    far = trial.point("a", np.arange(100)[:, None] < 50)
    assert far.kb == pytest.approx(0.5) and far.kb_busiest == pytest.approx(1.0)
    assert Budget(kb_per_second=1.0).of(far, "acc", 2.0) == pytest.approx(2.0)
    scores = np.linspace(1, 0, 100)[:, None]
    assert Budget(kb_per_second=1.0).choose(scores, trial, "acc").calibration.rate == pytest.approx(
        0.25, abs=0.011
    )


def test_what_the_student_reaches_alone_takes_nothing(trial):
    _, chosen = choose(trial, reach=0.05)
    assert chosen.calibration.rate == 0.0 and chosen.threshold == np.inf
