"""Agreement of answers, and when reuse stops."""

import numpy as np
import pytest

from lkd.edge.predict.reuse.audits import FEWEST, LATEST, Audits, agreement, ratio


def boxes(*given):
    return {"boxes": np.array(given, float).reshape(-1, 4), "labels": np.zeros(len(given), int)}


def test_agreement_of_boxes_is_f1():
    car, other = (0, 0, 10, 10), (20, 20, 40, 40)
    assert ratio(*agreement(boxes(car, other), boxes(car))) == pytest.approx(2 / 3)  # P = 1 / 2, R = 1
    assert ratio(*agreement(boxes(car), boxes(car))) == ratio(*agreement(boxes(), boxes())) == 1
    assert ratio(*agreement(boxes(), boxes(car))) == 0


def test_agreement_of_classes():
    one, other = {"probabilities": np.array([0.6, 0.4])}, {"probabilities": np.array([0.1, 0.9])}
    assert agreement(one, one) == (1.0, 1) and agreement(one, other) == (0.0, 1)


def test_the_draw_is_seeded_and_of_the_share():
    drawn = [[Audits(0.1, seed=seed).drawn() for _ in range(1)] for seed in (0, 0)]
    assert drawn[0] == drawn[1]
    one, same, other = (Audits(0.1, seed=seed) for seed in (3, 3, 4))
    draws = [[audits.drawn() for _ in range(2000)] for audits in (one, same, other)]
    assert draws[0] == draws[1] != draws[2] and 150 < sum(draws[0]) < 250
    assert not any(Audits(0.0).drawn() for _ in range(100)) and all(Audits(1.0).drawn() for _ in range(100))


def test_a_camera_is_stopped_by_its_latest_audits_and_others_go_on():
    audits = Audits(1.0, agree=0.9)
    assert [audits.add("still", (1.0, 1)) for _ in range(50)] == [False] * 50
    assert [audits.add("road", (0.5, 1)) for _ in range(FEWEST)] == [False] * (FEWEST - 1) + [True]
    assert audits.stopped == {"road": 0.5}
    wrong = [audits.add("still", (0.0, 1)) for _ in range(3)]
    assert wrong == [False, False, True]  # 18 of 20 is .9, 17 is less
    assert audits.stopped["still"] == pytest.approx((LATEST - 3) / LATEST)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(
        ValueError, match=r"audit=.* must be in \[0, 1\]: it is a share of the reused answers"
    ):
        Audits(share)
