"""The cache of soft labels by itself: what is good, for how long, and who has what."""

import pytest
import torch

from lkd.federated.knowledge.common.label_cache import LabelCache

ALL = torch.arange(6)


@pytest.mark.parametrize("duration", [0, 1, 3])
def test_a_label_is_good_for_so_many_rounds_after_its_own(duration):
    cache = LabelCache({}, 6, duration)
    assert not cache.good(ALL).any() and cache.ages.tolist() == [-1] * 6
    cache.put(torch.tensor([4]), torch.ones(1, 2))
    good = []
    for _ in range(5):
        cache.next_round()
        good.append(cache.good(ALL).tolist())
    expected = [False] * 4 + [True, False]
    assert good == [expected] * duration + [[False] * 6] * (5 - duration)
    assert cache.ages.tolist() == [-1, -1, -1, -1, 5, -1]  # what was never there does not age


def test_a_new_label_is_nobodys_until_it_is_handed_out():
    cache = LabelCache({}, 6, 3)
    rows, others = torch.tensor([5, 1]), torch.tensor([0, 1])
    cache.put(rows, torch.tensor([[5.0], [1.0]]))
    assert cache.lacks(7, rows).tolist() == [True, True]
    cache.hand(7, rows)
    assert cache.lacks(7, rows).tolist() == [False, False] and cache.lacks(8, rows).all()
    assert cache.lacks(7, others).tolist() == [True, False]
    cache.put(torch.tensor([1]), torch.tensor([[2.0]]))
    assert cache.lacks(7, rows).tolist() == [False, True]
    assert cache.labels(rows).tolist() == [[5.0], [2.0]]


def test_all_of_it_is_in_the_state():
    state = {}
    LabelCache(state, 6, 2).put(torch.tensor([2]), torch.ones(1, 3))
    LabelCache(state, 6, 2).hand(0, torch.tensor([2]))
    again = LabelCache({name: dict(group) for name, group in state.items()}, 6, 2)
    assert again.good(ALL).tolist() == [False, False, True, False, False, False]
    assert again.lacks(0, torch.tensor([2])).tolist() == [False] and again.labels(ALL).sum() == 3
