"""Which samples are in a batch: the places agree with the batches."""

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lkd.datamodules import IID, FederatedDataModule
from lkd.datamodules.samples.samplers import CameraBatchSampler, EpochLoader, IndexBatchSampler
from lkd.federated.knowledge.common.sample_indices import places
from lkd.federated.protocol.seeds import derive

from ..quadratic import Point
from .two_models import placed


class Numbers(Dataset):
    def __len__(self):
        return 23

    def __getitem__(self, i):
        return torch.tensor(float(i)), i % 2


class Data(LightningDataModule):
    def __init__(self, tensors, drop_last):
        super().__init__()
        self.data = TensorDataset(torch.arange(23.0), torch.arange(23) % 2) if tensors else Numbers()
        self.drop_last = drop_last

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=4, shuffle=True, drop_last=self.drop_last)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("tensors", [False, True])
def test_places_are_those_of_the_batches(tensors, drop_last):
    data = FederatedDataModule(Data(tensors, drop_last), IID(), clients=2, seed=1)
    data.setup("fit")
    for client in (data.clients[0], data.clients[1]):
        ordered = torch.cat([x for x, _ in client.ordered_batches("train")])
        for seed in (0, 7, 2**62 + 1):
            found = [x for x, _ in client.train_batches(seed)]
            where = client.train_places(seed)
            assert len(found) == len(where) == client.num_batches()
            for x, rows in zip(found, where, strict=True):
                assert torch.equal(ordered[torch.from_numpy(rows)], x)


class Views(Dataset):
    """Samples whose view is drawn by their key, as augmented pictures."""

    def __len__(self):
        return 23

    def __getitem__(self, keys):
        items = torch.tensor([getattr(key, "item", key) for key in keys])
        return items.float(), items % 2


class Grouped(LightningDataModule):
    def __init__(self, sampler, groups):
        super().__init__()
        self.sampler, self.groups = sampler, groups

    def train_dataloader(self):
        sampler = self.sampler(self.groups, batch_size=4, seed=3)
        return EpochLoader(Views(), sampler=sampler, batch_size=None, collate_fn=tuple)


def test_places_of_augmented_samples_are_those_of_the_batches():
    data = FederatedDataModule(Grouped(CameraBatchSampler, [range(23)]), IID(), clients=2, seed=1)
    data.setup("fit")
    for client in (data.clients[0], data.clients[1]):
        ordered = torch.cat([x for x, _ in client.ordered_batches("train")])
        for seed in (0, 7, 2**62 + 1):
            found, where = [x for x, _ in client.train_batches(seed)], client.train_places(seed)
            assert len(found) == len(where) == client.num_batches()
            for x, rows in zip(found, where, strict=True):
                assert torch.equal(ordered[torch.from_numpy(rows)], x)


@pytest.mark.parametrize("sampler", [CameraBatchSampler, IndexBatchSampler])
def test_a_client_of_several_groups_is_refused(sampler):
    data = FederatedDataModule(Grouped(sampler, [range(12), range(12, 23)]), IID(), clients=2, seed=1)
    data.setup("fit")
    with pytest.raises(ValueError, match=r"of 2 cameras or groups, .*one_camera_per_batch=false"):
        data.clients[0].train_places(0)


class Local:
    def __init__(self, client):
        self.client, self.seed, self.module = client, 5, torch.nn.Linear(1, 1)
        self.module.device = torch.device("cpu")


def test_places_go_on_from_epoch_to_epoch():
    client = placed()[1]
    found = places(Local(client))
    for epoch in range(3):
        for x, _ in client.train_batches(derive(5, epoch)):
            assert torch.equal(client.x[next(found)], x)


def test_a_client_that_cannot_say_is_refused():
    with pytest.raises(ValueError, match="client client0 has no method `train_places`"):
        places(Local(Point(0, [(1, 0.0)], 1)))
