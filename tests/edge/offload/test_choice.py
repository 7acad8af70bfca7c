"""What is sent of scores."""

import numpy as np

from lkd.edge.offload.choice import CANDIDATES, best, thresholds


def test_the_highest_scores_within_a_share_of_the_costs():
    scores, nbytes = np.array([[9.0, 1.0], [8.0, 7.0]]), np.array([[50, 10], [30, 10]])
    assert best(scores, nbytes, 0.79).tolist() == [[True, False], [False, False]]
    assert best(scores, nbytes, 0.8).tolist() == [[True, False], [True, False]]
    assert best(scores, nbytes, 1.0).all() and not best(scores, nbytes, 0.0).any()


def test_equal_scores_are_drawn_and_not_taken_from_the_front():
    first = best(np.zeros((100, 1)), np.ones((100, 1)), 0.3)
    assert first.sum() == 30 and 3 < first[:50].sum() < 27
    assert np.array_equal(first, best(np.zeros((100, 1)), np.ones((100, 1)), 0.3))
    assert not np.array_equal(first, best(np.zeros((100, 1)), np.ones((100, 1)), 0.3, seed=1))


def test_thresholds_fall_and_are_few():
    assert thresholds(np.array([[0.1], [0.5], [0.1]])).tolist() == [0.5, 0.1]
    many = thresholds(np.random.default_rng(0).random((5000, 1)))
    assert len(many) == CANDIDATES and (np.diff(many) < 0).all()
