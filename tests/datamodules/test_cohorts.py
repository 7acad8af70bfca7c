import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lkd.datamodules import (
    IID,
    AllClients,
    CohortSampler,
    Digits,
    FederatedDataModule,
    FixedSampler,
    Population,
    UniformSampler,
    WeightedSampler,
)
from lkd.datamodules.federated.client_data import Part, Ragged
from lkd.datamodules.samples.batching import Batching


def population(sizes, names=None):
    batching = Batching(DataLoader(TensorDataset(torch.zeros(int(sum(sizes)))), batch_size=1))
    return Population(Part(batching, Ragged(np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]))), names)


def cohorts(sampler, epochs):
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        yield from sampler


SIZES = [1, 2, 3, 4, 10, 30]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (AllClients(), [1, 1, 1, 1, 1, 1]),
        (UniformSampler(2), [1 / 3] * 6),
        (WeightedSampler(1), np.array(SIZES) / 50),
        (WeightedSampler(2), [1 / 20, 2 / 20, 3 / 20, 4 / 20, 10 / 20, 1]),  # 30 of 50 is always drawn
        (WeightedSampler(3), [1 / 10, 2 / 10, 3 / 10, 4 / 10, 1, 1]),
        (WeightedSampler(6), [1] * 6),
        (FixedSampler([1, "c"]), [0, 1, 1, 0, 0, 0]),
    ],
)
def test_clients_are_drawn_as_often_as_the_strategy_says(strategy, expected):
    clients = population(SIZES, list("abcdef"))
    assert strategy.probabilities(clients) == pytest.approx(np.array(expected, dtype=float))
    drawn, epochs = np.zeros(6), 3000
    for cohort in cohorts(CohortSampler(clients, strategy), epochs):
        assert cohort == sorted(set(cohort)) and len(cohort) == pytest.approx(sum(expected))
        drawn[cohort] += 1
    deviation = np.sqrt(np.array(expected) * (1 - np.array(expected)) / epochs)
    assert (np.abs(drawn / epochs - expected) <= 4 * deviation).all()


def test_weighted_chances_are_exact():
    """Over all starting points of the systematic sample every client comes up exactly in proportion."""

    class Start:
        def __init__(self, start):
            self.start = start

        def permutation(self, ids):
            return ids[::-1]

        def integers(self, high):
            assert high == 20
            return self.start

    clients = population(SIZES)
    drawn = np.zeros(6, dtype=int)
    for start in range(20):
        drawn[WeightedSampler(2).draw(clients, Start(start))] += 1
    assert drawn.tolist() == [1, 2, 3, 4, 10, 20]


def test_pairs_of_all_clients_occur_in_weighted_cohorts():
    pairs = {tuple(cohort) for cohort in cohorts(CohortSampler(population([1] * 5), WeightedSampler(2)), 400)}
    assert len(pairs) == 10


def test_cohorts_are_a_function_of_seed_and_epoch():
    clients = population([1] * 50)

    def draw(seed, epoch, count=3):
        sampler = CohortSampler(clients, UniformSampler(5), count, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert draw(0, 7) == draw(0, 7) and len(draw(0, 7)) == 3
    assert draw(0, 7) != draw(0, 8) and draw(0, 7) != draw(1, 7)
    assert len({tuple(cohort) for cohort in draw(0, 7)}) == 3
    sampler = CohortSampler(clients, UniformSampler(5), 3)
    sampler.set_epoch(7)  # as Lightning does on resume, without the epochs before
    assert list(sampler) == draw(0, 7)
    assert (sampler.num_replicas, sampler.rank, len(sampler)) == (1, 0, 3)


def test_a_small_cohort_of_a_large_population_does_not_shuffle_all():
    clients = population([1] * 100_000)

    class Watched(np.random.Generator):
        def permutation(self, *args, **kwargs):
            raise AssertionError("shuffled everybody")

    chosen = UniformSampler(100).draw(clients, Watched(np.random.PCG64(0)))
    assert len(set(chosen.tolist())) == 100 and chosen.max() < 100_000
    sizes = np.random.default_rng(0).integers(1, 30, 100_000)
    assert len(set(WeightedSampler(100).draw(population(sizes), np.random.default_rng(1)).tolist())) == 100


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: UniformSampler(0), "size=0 must be 1 or more: it is the number of clients in a cohort"),
        (lambda: FixedSampler([]), r"clients=\[\]"),
        (lambda: FixedSampler([1, 1]), "different"),
        (lambda: CohortSampler(population([1, 1]), UniformSampler(3)), "cohort of 3 is larger .* 2 clients"),
        (lambda: CohortSampler(population([1, 1]), WeightedSampler(3)), "cohort of 3 is larger"),
        (lambda: CohortSampler(population([1, 1], ["C1", "C2"]), FixedSampler(["C3"])), "'C3' is not among"),
        (lambda: CohortSampler(population([1, 1]), FixedSampler([2])), "'2' is not among"),
        (lambda: CohortSampler(population([1, 1]), AllClients(), 0), "cohorts_per_epoch=0"),
        (lambda: CohortSampler(population([1, 1]), AllClients(), seed=-1), "seed=-1"),
    ],
)
def test_bad_arguments(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize("cohort", ["poisson", 0.3, UniformSampler])
def test_what_is_no_sampler_is_refused_at_once(cohort):
    with pytest.raises(
        TypeError, match=r"^cohort=.* must be a number of clients or a sampler: PoissonSampler"
    ):
        FederatedDataModule(Digits(), IID(), clients=4, cohort=cohort)
