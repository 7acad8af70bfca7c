"""Worker processes of clients stay, and their batches are those that there are without workers."""

import gc
import multiprocessing
import os
import pickle

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from lkd.datamodules import IID, FederatedDataModule
from lkd.datamodules.samples.crew import look


class Own:
    """A transform that draws."""

    def __init__(self):
        self.scale = 1.0

    def __call__(self, x):
        return self.scale * x + torch.rand(())


class Rows(Dataset):
    """Samples say which process made them."""

    def __init__(self):
        self.transform = Own()

    def __len__(self):
        return 24

    def __getitem__(self, k):
        if k == 23 and getattr(self, "broken", False):
            raise OSError("unreadable")
        return {"x": self.transform(torch.tensor(float(k))), "by": os.getpid()}


def federation(workers, dataset=None, **kwargs):
    loader = DataLoader(dataset or Rows(), batch_size=3, num_workers=workers, **kwargs)
    data = FederatedDataModule(loader, IID(), clients=4)
    data.setup("fit")
    return data


def passes(data, seeds=(0, 1)):
    """Batches of all clients, and who made them."""
    batches = [b for seed in seeds for client in data.clients for b in client.train_batches(seed)]
    batches += [b for client in data.clients for b in client.ordered_batches("train")]
    return [b["x"] for b in batches], {pid for b in batches for pid in b["by"].tolist()}


def test_the_same_processes_serve_all_clients_and_passes():
    xs, here = passes(federation(0))
    data = federation(2)
    found, theirs = passes(data)
    assert here == {os.getpid()} and len(theirs) == 2
    assert all(torch.equal(a, b) for a, b in zip(xs, found, strict=True))
    assert passes(data)[1] == theirs
    clone = pickle.loads(pickle.dumps(data.clients[0]))  # as for workers that are not forked
    assert torch.equal(next(iter(clone.ordered_batches("train")))["x"], xs[16])
    del clone
    data.teardown("fit")
    gc.collect()
    assert not {p.pid for p in multiprocessing.active_children()} & theirs
    assert passes(data, (0,))[1].isdisjoint(theirs)


def test_passes_that_overlap_or_are_given_up():
    data, plain = federation(2), federation(0)

    def mixed(data):
        one, other = data.clients[0].train_batches(5), data.clients[1].train_batches(6)
        found = [next(one)["x"], next(other)["x"], next(one)["x"]]
        del one, other
        return found + [b["x"] for b in data.clients[2].train_batches(7)]

    for a, b in zip(mixed(data), mixed(plain), strict=True):
        assert torch.equal(a, b)


def test_a_changed_data_set_is_seen():
    dataset = Rows()
    data = federation(2, Subset(dataset, range(20)))
    before = passes(data)[1]
    dataset.transform.scale = 100.0
    xs, after = passes(data)
    assert before.isdisjoint(after) and max(float(x.max()) for x in xs) > 1000
    other = Rows()
    other.transform.scale = 100.0
    expected, _ = passes(federation(0, Subset(other, range(20))))
    assert all(torch.equal(a, b) for a, b in zip(expected, xs, strict=True))


def test_global_generators_see_nothing_of_the_workers():
    data = federation(1)
    before = torch.get_rng_state()
    passes(data)
    assert torch.equal(before, torch.get_rng_state())


def test_a_look_sees_values_and_not_long_lists():
    rows = Rows()
    rows.names, rows.table = list(map(str, range(1000))), torch.zeros(3)
    before = look(rows)
    assert look(rows) == before
    rows.table[0] = 1
    assert look(rows) != before
    before = look(rows)
    rows.names[3] = "other"
    assert look(rows) == before
    rows.names = rows.names[:3]
    assert look(rows) != before


def test_an_error_in_a_worker_is_not_the_end():
    dataset = Rows()
    dataset.broken = True
    data = federation(1, dataset)
    (owner,) = [c for c in data.clients if 23 in c.parts["train"][1]]
    for _ in range(2):
        with pytest.raises(OSError, match="unreadable"):
            list(owner.train_batches(0))
    others = [c for c in data.clients if c is not owner and c.id != owner.id]
    assert len(list(others[0].train_batches(0))) == 2
