"""The running sum: the same bits for any order and any split over ranks, where plain float64 sums differ."""

import itertools

import pytest
import torch

from lkd.federated.server.weighted_sum import CHUNK, RunningSum

# a plain float64 sum of these depends on the order: 1e16 swallows the 1
TERMS = [
    ({"w": torch.tensor([v, -v], dtype=torch.float64)}, w) for v, w in ((1e16, 1.0), (1.0, 3.0), (-1e16, 1.0))
]


def total(terms):
    result = RunningSum({"w": torch.zeros(2, dtype=torch.float64)})
    for tensors, weight in terms:
        result.add(tensors, weight)
    return result


def test_these_terms_tell_a_plain_sum_from_a_pair():
    plain = {sum(float(t["w"][0]) * w for t, w in order) for order in itertools.permutations(TERMS)}
    assert len(plain) > 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_any_order_gives_the_exact_sum(order):
    result = total([TERMS[i] for i in order])
    assert result.sum()["w"].tolist() == [3.0, -3.0]
    assert result.mean()["w"].tolist() == [3.0 / 5.0, -3.0 / 5.0]
    assert (result.weight, result.count) == (5.0, 3)


@pytest.mark.parametrize("ranks", [([0], [1, 2]), ([2, 1], [0]), ([0, 1, 2], []), ([0, 2], [1])])
def test_any_split_over_ranks_gives_the_same(ranks):
    sums = [total([TERMS[i] for i in mine]) for mine in ranks]
    sent = []
    for one in sums:  # what each would send
        one.gather(lambda flat: sent.append(flat.clone()) or [], "cpu")
    joined = total([])
    joined.gather(lambda flat: sent, "cpu")
    assert joined.sum()["w"].tolist() == [3.0, -3.0]
    assert (joined.weight, joined.count) == (5.0, 3)


def test_more_values_than_a_chunk_and_a_fresh_start():
    g = torch.Generator().manual_seed(0)
    values = torch.randn(2 * CHUNK + 7, generator=g)
    result = RunningSum({"a": values[:5], "b": values[5:]})
    for _ in range(2):  # the second time after a reset
        result.reset()
        for weight in (1.0, 2.0):
            result.add({"a": weight * values[:5], "b": weight * values[5:]}, weight)
        torch.testing.assert_close(result.mean()["b"], values[5:] * 5 / 3)
        assert result.mean()["a"].dtype == torch.float32


def test_other_names_and_no_weight_are_refused():
    with pytest.raises(ValueError, match="'v', 'w'"):
        total([({"v": torch.zeros(2)}, 1.0)])
    with pytest.raises(ValueError, match="weights of 0 clients"):
        total([]).mean()
