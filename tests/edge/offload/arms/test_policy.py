"""Which exit answers, and thresholds from budgets, all by hand."""

import numpy as np
import pytest

from lkd.edge.offload.arms.policy import best, cheapest, leaves, policies
from lkd.edge.offload.classes import entropy

MACS = np.array([1e6, 3e6, 10e6])


def drawn(samples=40, exits=3):
    """Exits that are the surer, and the more often right, the deeper they are."""
    draw = np.random.default_rng(0)
    doubts = draw.random((exits, samples)) / np.arange(1, exits + 1)[:, None]
    right = draw.random((exits, samples)) > doubts
    return doubts, right


def test_thresholds_at_their_ends_are_the_first_and_the_last_exit():
    doubts, _ = drawn()
    assert (leaves(doubts, [np.inf, 0.0]) == 0).all()
    assert (leaves(doubts, [0.0, np.inf]) == 1).all()
    certain = np.stack([entropy(np.eye(3)), entropy(np.eye(3))])
    assert (leaves(certain, [0.0]) == 1).all()  # an entropy is never below 0
    assert (leaves(doubts - 1, [-np.inf, -np.inf]) == 2).all()  # a margin's doubt may be


def test_the_first_exit_that_is_sure_answers():
    doubts = np.array([[0.1, 0.6, 0.7, 0.7], [0.9, 0.2, 0.9, 0.5], [0.0, 0.0, 9.0, 0.0]])
    assert leaves(doubts, [0.5, 0.5]).tolist() == [0, 1, 2, 2]


def test_what_a_policy_costs_and_gives_by_hand():
    doubts = np.array([[0.1, 0.2, 0.3, 0.4], [0.0] * 4])
    right = np.array([[True, True, False, False], [False, True, True, False]])
    found = {p.thresholds[0]: (p.macs, p.right) for p in policies(doubts, right, np.array([1.0, 5.0]))}
    two = float(np.nextafter(0.2, 1))
    assert found[-np.inf] == (5.0, 0.5) and found[np.inf] == (1.0, 0.5)
    assert found[two] == ((1 + 1 + 5 + 5) / 4, 0.75)
    assert len(found) == 5


def test_the_best_of_a_budget_and_the_cheapest_of_a_metric_among_all():
    doubts, right = drawn()
    found = policies(doubts, right, MACS)
    for budget in (1e6, 2.5e6, 6e6, 10e6):
        chosen = best(found, budget)
        assert chosen.macs <= budget
        assert chosen.right == max(p.right for p in found if p.macs <= budget)
        exits = leaves(doubts, chosen.thresholds)
        assert chosen.macs == MACS[exits].mean()
        assert chosen.right == right[exits, np.arange(40)].mean()
    for reach in (0.5, right[2].mean()):
        chosen = cheapest(found, reach)
        assert chosen.right >= reach
        assert chosen.macs == min(p.macs for p in found if p.right >= reach)


def test_a_larger_budget_is_never_worse():
    found = policies(*drawn(), MACS)
    rights = [best(found, budget).right for budget in np.linspace(1e6, 10e6, 10)]
    assert rights == sorted(rights)


def test_many_samples_and_exits_are_tried_on_a_grid():
    doubts, right = drawn(samples=3000, exits=5)
    found = policies(doubts, right, np.arange(1.0, 6.0))
    assert len(found) <= 4000
    assert {1.0, 5.0} <= {p.macs for p in found}  # both ends are among them


def test_what_cannot_be():
    doubts, right = drawn()
    found = policies(doubts, right, MACS)
    with pytest.raises(ValueError, match="there are 1 thresholds for 3 exits"):
        leaves(doubts, [0.1])
    with pytest.raises(
        ValueError, match=r"0.5 million MACs is met by no thresholds: the first exit alone takes 1\."
    ):
        best(found, 0.5e6)
    with pytest.raises(
        ValueError, match=r"reach=1 is reached by no thresholds on the validation data: the best have 0\."
    ):
        cheapest(found, 1.0)
