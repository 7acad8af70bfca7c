"""Whole people in every part, and what leaves a part without anybody."""

import pytest

from lkd.datamodules.sensors.subject_split import by_person

TEN = [f"s{i}" for i in range(1, 11)]


def test_a_seed_draws_and_nobody_is_in_two_parts():
    one, same, other = (by_person(TEN, (0.6, 0.2, 0.2), seed=s) for s in (1, 1, 2))
    assert one == same != other
    assert sorted(one.train + one.val + one.test) == sorted(TEN) and [*map(len, one)] == [6, 2, 2]


@pytest.mark.parametrize("named", [{"test": TEN[:9]}, {"val": TEN[:5], "test": TEN[5:]}, {"val": TEN}])
def test_nobody_left_to_train_on(named):
    with pytest.raises(ValueError, match="nobody of 10 people is left to train on: name fewer val_subjects"):
        by_person(TEN, (0.6, 0.2, 0.2), **named)


def test_a_share_that_comes_to_nobody():
    with pytest.raises(
        ValueError, match=r"fractions=\(0.96, 0.02, 0.02\) leaves nobody of 10 people to test"
    ):
        by_person(TEN, (0.96, 0.02, 0.02))
    assert by_person(TEN, (0.96, 0.02, 0.02), val=["s1"], test=["s2"]).val == ["s1"]
    assert by_person(TEN, (1.0, 0.0, 0.0)).test == []
