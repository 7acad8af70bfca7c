import pickle
import random

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities import move_data_to_device
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from lkd.datamodules import CameraBatchSampler, IndexBatchSampler
from lkd.datamodules.federated.client_data import Part, Population, Ragged
from lkd.datamodules.samples.batching import Batching
from lkd.datamodules.samples.samplers import EpochLoader

X, Y = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)), torch.arange(1000)
PAIRS = TensorDataset(X, Y)


class Noisy(Dataset):
    """Draws from all three global random states, as transforms do."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        if index == 39:
            raise OSError("damaged")
        return torch.tensor([index, torch.rand(()), np.random.rand(), random.random()])


class Keyed(Dataset):
    """Like frames: gives back the keys it was asked for."""

    def __len__(self):
        return 20

    def __getitem__(self, keys):
        return [tuple(key) for key in keys]


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(s, t) for one, two in zip(a, b, strict=True) for s, t in zip(one, two, strict=True)
    )


def rows_of(batches):
    return [row for batch in batches for row in batch[1].tolist()]


def population(batching, *arrays, **kwargs):
    return Population(Part(batching, Ragged([np.asarray(array) for array in arrays])), **kwargs)


@pytest.mark.parametrize("size", [1, 7, 32, 1000, 5000])
def test_a_pass_holds_every_row_once_and_depends_on_the_seed_alone(size):
    batching = Batching(DataLoader(PAIRS, batch_size=7))
    rows = np.arange(3, 1000, 2)[:size]
    passes = [list(batching.shuffled(rows, seed)) for seed in (5, 5, 6, -1)]
    assert all(sorted(rows_of(batches)) == rows.tolist() for batches in passes)
    assert len(passes[0]) == batching.count(rows) == -(-len(rows) // 7)
    assert {len(x) for x, _ in passes[0][:-1]} <= {7}
    assert same(passes[0], passes[1])
    assert size == 1 or rows_of(passes[0]) != rows_of(passes[2])
    assert all(torch.equal(x, X[y]) for batches in passes for x, y in batches)
    assert rows_of(batching.ordered(rows)) == rows.tolist()


def test_batches_are_those_of_a_data_loader():
    for dataset in (PAIRS, Subset(Subset(PAIRS, range(500, 1000)), range(100, 300))):
        loader = DataLoader(dataset, batch_size=8)
        expected, got = list(loader), list(Batching(loader).ordered(np.arange(len(dataset))))
        assert same(expected, got) and {type(b) for b in got} == {type(b) for b in expected} == {list}
    slow = DataLoader(
        dataset, batch_size=8, collate_fn=lambda samples: torch.utils.data.default_collate(samples)
    )
    assert same(list(slow), list(Batching(slow).ordered(np.arange(200))))
    short = Batching(DataLoader(PAIRS, batch_size=8, drop_last=True))
    assert short.count(np.arange(20)) == len(list(short.shuffled(np.arange(20), 0))) == 2
    assert len(rows_of(short.ordered(np.arange(20)))) == 20


def test_of_lkd_loaders_it_takes_collation_and_batch_size():
    sampler = IndexBatchSampler([range(1000)], 32)
    batching = Batching(EpochLoader(PAIRS, sampler=sampler, batch_size=None, collate_fn=tuple))
    batches = list(batching.shuffled(np.arange(50), 1))
    assert [type(batch) for batch in batches] == [tuple] * 2 and sorted(rows_of(batches)) == list(range(50))
    smaller = Batching(EpochLoader(PAIRS, sampler=sampler, batch_size=None, collate_fn=tuple), batch_size=5)
    assert smaller.count(np.arange(50)) == 10


def test_keys_carry_the_seed_and_batches_hold_one_camera():
    groups = [range(0, 12), range(12, 20)]
    batching = Batching(
        EpochLoader(Keyed(), sampler=CameraBatchSampler(groups, 4), batch_size=None, collate_fn=list)
    )
    rows = np.array([0, 1, 2, 3, 4, 15, 17])
    batches = list(batching.shuffled(rows, 2**63 + 9))
    assert len(batches) == batching.count(rows) == 3
    assert all(len({item < 12 for _, _, item in batch}) == 1 for batch in batches)
    keys = [key for batch in batches for key in batch]
    assert {key[:2] for key in keys} == {(9, 0)} and sorted(key[2] for key in keys) == rows.tolist()
    assert batches == list(batching.shuffled(rows, 9)) != list(batching.shuffled(rows, 10))
    ordered = [key for batch in batching.ordered(rows) for key in batch]
    assert ordered == [(0, 0, row) for row in rows]
    often = CameraBatchSampler(groups, 4, batches_per_camera=3)
    often = Batching(EpochLoader(Keyed(), sampler=often, batch_size=None, collate_fn=list))
    assert often.count(rows) == len(list(often.shuffled(rows, 0))) == 6
    assert often.count(rows[:5]) == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_depend_neither_on_workers_nor_on_global_random_states(workers):
    rows = np.arange(1, 30)
    plain = list(Batching(DataLoader(Noisy(), batch_size=4)).shuffled(rows, 3))
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    again = list(Batching(DataLoader(Noisy(), batch_size=4)).shuffled(rows, 3))
    loaded = list(Batching(DataLoader(Noisy(), batch_size=4, num_workers=workers)).shuffled(rows, 3))
    with pytest.raises(OSError, match="damaged"):
        list(Batching(DataLoader(Noisy(), batch_size=4)).shuffled(np.array([39]), 3))
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[2]
    assert np.array_equal(np.random.get_state()[1], before[1])
    for other in (again, loaded):
        assert all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))
    noise = torch.cat(plain)[:, 1:]
    assert noise.unique().numel() == noise.numel()  # nothing is drawn twice
    other = torch.cat(list(Batching(DataLoader(Noisy(), batch_size=4)).shuffled(rows, 4)))[:, 1:]
    assert not np.isin(other, noise).any()


def test_a_population_makes_clients_when_asked():
    clients = population(Batching(DataLoader(PAIRS, batch_size=4)), range(6), range(6, 8), names=["a", "b"])
    assert len(clients) == 2 and clients.names == ["a", "b"] and clients[-1].name == "b"
    first, second = clients[[0, 1]]
    assert (first.id, first.name, first.num_samples, first.share, first.probability) == (0, "a", 6, 0.75, 1.0)
    assert first.num_batches() == 2 and rows_of(second.ordered_batches("train")) == [6, 7]
    assert [client.name for client in clients] == ["a", "b"]
    with pytest.raises(IndexError, match="no client 2"):
        clients[2]
    with pytest.raises(ValueError, match="client 'a' has no test data, only 'train'"):
        first.ordered_batches("test")


def test_pooled_clients_hold_all():
    batching = Batching(DataLoader(PAIRS, batch_size=4))
    clients = population(batching, [5, 3], [8], [1, 2])
    clients.parts["val"] = Part(batching, Ragged([np.array([], dtype=int), np.array([9]), np.array([7])]))
    pooled = clients[2].pooled([clients[0], clients[2]])
    assert rows_of(pooled.ordered_batches("train")) == [5, 3, 1, 2]
    assert rows_of(pooled.ordered_batches("val")) == [7]
    assert pooled.share == pytest.approx(0.8) and pooled.probability == 1 and pooled.num_samples == 4
    assert not clients[0].has("val") and clients[1].has("val")


def test_cohorts_pass_through_lightning_and_pickle():
    cohort = population(Batching(DataLoader(PAIRS, batch_size=4)), range(6), range(6, 8))[[0, 1]]
    moved = move_data_to_device(cohort, torch.device("meta"))
    assert all(a is b for a, b in zip(moved, cohort, strict=True))
    copy = pickle.loads(pickle.dumps(cohort[0]))
    assert same(list(copy.train_batches(3)), list(cohort[0].train_batches(3)))


def test_a_hundred_thousand_clients_are_two_arrays():
    arrays = np.array_split(np.random.default_rng(0).permutation(300_000), 100_000)
    ragged = Ragged(arrays)
    held = sum(value.nbytes for value in vars(ragged).values())
    assert held == (300_000 + 2 * 100_000) * 8
    assert all(np.array_equal(ragged[k], arrays[k]) for k in (0, 1, 77_777, 99_999))
    clients = Population(
        Part(Batching(DataLoader(TensorDataset(torch.arange(300_000)), batch_size=2)), ragged)
    )
    assert not any(isinstance(value, list | dict) and len(value) > 10 for value in vars(clients).values())
    assert clients[99_999].name == "99999" and np.shares_memory(clients[5].parts["train"][1], ragged.flat)


def test_loaders_that_cannot_serve_clients():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

    with pytest.raises(ValueError, match="Stream is a stream"):
        Batching(DataLoader(Stream()))
    with pytest.raises(ValueError, match="give batch_size="):
        Batching(DataLoader(PAIRS, batch_size=None))
    x, _ = next(iter(Batching(DataLoader(PAIRS, batch_size=None), batch_size=3).ordered(np.arange(5))))
    assert x.shape == (3, 3)
