"""Mixing before a robust rule, against the papers' formulas; its draws follow from the federation's seed and the round."""

import numpy as np
import pytest
import torch

from lkd.federated import (
    Attack,
    Bucketing,
    CoordinateMedian,
    FedAvg,
    Federation,
    GeometricMedian,
    Krum,
    NearestNeighborMixing,
    NormClipping,
    TrimmedMean,
)
from lkd.federated.server import robust_functional as robust
from lkd.federated.server.update_mixing import bucketing, mix_nearest

from .quadratic import Point, Quadratic, loader, run, trainer
from .test_robust import draw


@pytest.fixture(params=[None, 16], ids=["whole", "chunks"])
def chunks(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(robust, "CHUNK", request.param)


@pytest.mark.parametrize(("clients", "size"), [(10, 2), (10, 3), (7, 7), (3, 5)])
def test_buckets_are_means_of_a_random_partition(chunks, clients, size):
    # powers of two: which clients are in a bucket is read off the bits of its sum
    updates = (2.0 ** torch.arange(clients, dtype=torch.float64))[:, None].repeat(1, 5)
    mixed = bucketing(updates, size, seed=3)
    counts = [size] * (clients // size) + ([clients % size] if clients % size else [])
    assert mixed.shape == (len(counts), 5)
    sums = [round(float(row[0]) * count) for row, count in zip(mixed, counts, strict=True)]
    assert [sum_.bit_count() for sum_ in sums] == counts and sum(sums) == 2**clients - 1
    assert torch.equal(mixed, bucketing(updates, size, seed=3))
    assert size >= clients or not torch.equal(mixed, bucketing(updates, size, seed=4))


@pytest.mark.parametrize(("clients", "byzantine"), [(9, 4), (10, 3), (5, 0), (1, 0)])
def test_every_row_is_the_mean_of_its_nearest(chunks, clients, byzantine):
    updates = draw(clients).double().numpy()
    expected = []
    for row in updates:
        near = np.argsort(((updates - row) ** 2).sum(1))[: clients - byzantine]
        expected.append(updates[near].mean(0))
    found = mix_nearest(torch.from_numpy(updates), byzantine).numpy()
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-12)


@pytest.mark.parametrize(
    "rule", [CoordinateMedian(), TrimmedMean(0.2), Krum(2), GeometricMedian(), NormClipping()]
)
def test_degenerate_cases(rule):
    updates = draw()
    assert torch.equal(Bucketing(rule, size=1)(updates), rule(updates))
    mean = updates.double().mean(0).float()
    torch.testing.assert_close(NearestNeighborMixing(rule, 0)(updates), mean)
    torch.testing.assert_close(Bucketing(TrimmedMean(0.0), size=5)(updates), mean)


def test_equal_updates_come_out_unchanged_and_types_stay():
    for dtype in (torch.float32, torch.bfloat16):
        update = (draw(1)[0] / 3).to(dtype)
        for rule in (Bucketing(CoordinateMedian(), 3), NearestNeighborMixing(CoordinateMedian(), 4)):
            assert torch.equal(rule(update.expand(10, -1)), update)


def test_four_of_ten_cannot_do_with_mixing_what_they_do_to_the_median():
    """Honest clients differ: each knows one coordinate. Liars say the opposite of their mean."""
    honest = torch.eye(6)
    updates = torch.cat([honest, (-3 * honest.mean(0)).expand(4, -1)])
    assert (CoordinateMedian()(updates) == 0).all()  # nobody's opinion
    assert (CoordinateMedian()(mix_nearest(updates, 4)) > 0).any()
    # with 1e30 at two of ten
    poisoned = torch.ones(10, 6) + 0.1 * draw()
    poisoned[[3, 7]] = 1e30
    for rule in (Bucketing(CoordinateMedian()), NearestNeighborMixing(CoordinateMedian(), 2)):
        assert (rule(poisoned) - 1).abs().max() < 0.3


def test_buckets_are_other_ones_in_every_round_of_the_federation():
    seeds = []

    class Spying(Bucketing):
        def reseed(self, seed):
            super().reseed(seed)
            seeds.append(self._seed)

    def rounds(seed, number):
        seeds.clear()
        clients = [Point(i, [(1, float(i))], 5) for i in range(5)]
        # inside another rule, which passes it on
        federation = run(
            FedAvg(), number, clients, seed=seed, aggregator=NormClipping(rule=Spying(CoordinateMedian()))
        )
        return list(seeds), float(federation.model.x.detach())

    first, again, other = rounds(0, 3), rounds(0, 3), rounds(1, 3)
    assert first == again and len(set(first[0])) == 3
    assert not set(first[0]) & set(other[0])


def test_global_generators_are_left_alone():
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    bucketing(draw(), 2)
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()


def test_the_fewest_clients():
    assert Bucketing(Krum(2), 2).min_clients == 13 and Bucketing(CoordinateMedian(), 3).min_clients == 1
    assert (
        NearestNeighborMixing(Krum(1), 4).min_clients == 9
        and NearestNeighborMixing(Krum(4), 1).min_clients == 11
    )
    federation = Federation(Quadratic(), aggregator=NearestNeighborMixing(CoordinateMedian(), 3))
    with pytest.raises(
        ValueError, match="aggregator=NearestNeighborMixing as it is set needs at least 7 clients"
    ):
        trainer(1).fit(federation, loader([Point(i, [(1, 1.0)], 6) for i in range(6)]))


def test_liars_do_not_steer():
    clients = [Point(i, [(1, 1.0)], 5) for i in range(5)]
    attack = Attack([1, 3], scale=4.0)
    found = run(
        FedAvg(), 200, clients, attack=attack, aggregator=NearestNeighborMixing(CoordinateMedian(), 2)
    )
    assert found.model.x.item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("make", "sentence"), [
    (lambda: Bucketing(CoordinateMedian(), 0), "size=0 must be 1 or more"),
    (lambda: NearestNeighborMixing(CoordinateMedian(), -1), "byzantine=-1 must be 0 or more"),
    (lambda: mix_nearest(draw(8), 4), "byzantine=4 needs at least 9 clients that reply .* there are 8"),
    (lambda: bucketing(torch.zeros(3)), r"shape \(3,\) must be \(K, P\)"),
])  # fmt: skip
def test_one_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize(
    "make", [Bucketing, lambda rule: NearestNeighborMixing(rule, 1), lambda rule: NormClipping(rule=rule)]
)
def test_a_class_or_a_name_is_no_rule(make):
    for rule in (CoordinateMedian, "median"):
        with pytest.raises(
            TypeError, match=r"rule=.* must be an object of Rule, such as CoordinateMedian\(\)"
        ):
            make(rule)
