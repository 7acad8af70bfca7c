"""A column "group": rows that are never parted, when a public share is held out and when clients split their rows."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lkd.datamodules import IID, FederatedDataModule, Natural
from lkd.datamodules.classification.digits import Digits
from lkd.datamodules.federated.build_clients import hold_out


class Grouped(Digits):
    """40 rows of two owners; groups of 1 to 4 rows, mixed up; `time` counts down within a group."""

    def __init__(self, timed=True, grouped=True, **kwargs):
        super().__init__(**kwargs)
        self.timed, self.grouped = timed, grouped

    def setup(self, stage=None):
        group = np.repeat(np.arange(16), [1, 2, 3, 4] * 4)
        order = np.random.default_rng(0).permutation(40)
        columns = {"owner": group // 8, "time": 100 * group - np.arange(40), "group": group}
        keep = ["owner"] + ["time"] * self.timed + ["group"] * self.grouped
        dataset = TensorDataset(torch.arange(40.0)[:, None], torch.zeros(40, dtype=torch.int64))
        dataset.columns = {name: columns[name][order] for name in keep}
        self.groups = group[order]
        self.datasets = {"train": dataset, "val": dataset, "test": dataset}

    def train_dataloader(self):
        return DataLoader(self.datasets["train"], batch_size=4)


def rows_of(client, part):
    return client.parts[part][1] if client.has(part) else np.arange(0)


@pytest.mark.parametrize("timed", [True, False])
def test_clients_never_part_a_group(timed):
    data = Grouped(timed)
    federation = FederatedDataModule(data, Natural("owner"), client_fractions=(0.5, 0.25, 0.25), seed=4)
    federation.setup("fit")
    for number, client in enumerate(federation.clients):
        parts = [set(data.groups[rows_of(client, part)]) for part in ("train", "val", "test")]
        assert [len(groups) for groups in parts] == [4, 2, 2]  # shares of the 8 groups, not of the rows
        assert set.union(*parts) == set(range(8 * number, 8 * number + 8))
        if timed:  # a group's time is its first
            assert [max(groups) for groups in parts] == [8 * number + k for k in (3, 5, 7)]


def test_without_groups_all_is_as_it_was():
    data = Grouped(grouped=False)
    federation = FederatedDataModule(data, Natural("owner"), client_fractions=(0.5, 0.25, 0.25))
    federation.setup("fit")
    sizes = [
        [len(rows_of(client, part)) for part in ("train", "val", "test")] for client in federation.clients
    ]
    assert sizes == [[10, 5, 5], [10, 5, 5]]
    one, two = (hold_out(100, 0.3, np.random.default_rng(5), groups) for groups in (None, np.arange(100)))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True)) and len(one[1]) == 30


def test_the_public_share_is_of_whole_groups():
    data, drawn = Grouped(), set()
    for seed in range(5):
        federation = FederatedDataModule(data, IID(), clients=2, public=0.3, seed=seed)
        federation.setup("fit")
        public = {int(x) for batch in federation.public_dataloader() for x in batch.flatten()}
        assert abs(len(public) - 12) <= 2  # the nearest that groups of up to 4 allow
        assert set(data.groups[sorted(public)]) & set(data.groups[sorted(set(range(40)) - public)]) == set()
        drawn.add(tuple(sorted(public)))
    assert len(drawn) == 5


def test_a_public_share_that_groups_cannot_give():
    groups = np.zeros(10, dtype=np.int64)
    with pytest.raises(ValueError, match=r"public=0\.2 of 10 training samples leaves the clients nothing"):
        hold_out(10, 0.2, np.random.default_rng(0), groups)
