"""Two scales of scores become one."""

import numpy as np
import pytest

from lkd.edge.offload.scale import Scale, matched_scale

from .drawn import of_boxes


def test_equal_scores_stay():
    scores = np.random.default_rng(0).random(50)
    assert Scale(scores, scores)(scores) == pytest.approx(scores, abs=1e-5)


def test_a_rising_distortion_is_taken_back_and_the_order_stays():
    ours = np.sort(np.random.default_rng(0).random(400))
    scale = Scale(ours**3, ours)
    assert scale(ours**3) == pytest.approx(ours, abs=1e-5)
    new = np.sort(np.random.default_rng(1).random(1000))
    assert (np.diff(scale(new)) > 0).all()


def test_the_count_above_a_score_is_the_same_though_one_has_more_boxes():
    random = np.random.default_rng(0)
    theirs, ours = random.random(500), random.random(300) ** 2
    moved = Scale(theirs, ours)(theirs)
    for score in (0.2, 0.5, 0.8):
        assert (moved > score).sum() == pytest.approx((ours > score).sum(), abs=2)


def test_without_boxes_nothing_moves():
    assert Scale(np.zeros(0), np.zeros(0))(np.array([0.3, 0.7])) == pytest.approx([0.3, 0.7], abs=1e-5)


def test_of_answers():
    made = of_boxes()
    remote = [unit for units in made.remote for unit in units]
    theirs = np.concatenate([unit["scores"] for unit in remote])
    moved = matched_scale(remote, made.local)(theirs)
    ours = np.concatenate([one["scores"] for one in made.local])
    assert (moved > 0.6).sum() == pytest.approx((ours > 0.6).sum(), abs=2)
