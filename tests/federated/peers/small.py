"""Small decentralized federations on generated data."""

import torch
from lightning.pytorch import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.datamodules import IID, FederatedDataModule
from lkd.federated import Federation, LocalTraining
from lkd.modules import MultiHeadClassifier

from ..quadratic import trainer


class Blobs(LightningDataModule):
    """Points in three dimensions, three classes; validation data of the same kind."""

    def __init__(self, samples=75, batch_size=5):
        super().__init__()
        self.samples, self.batch_size = samples, batch_size

    def _data(self, seed):
        x = torch.randn(self.samples, 3, generator=torch.Generator().manual_seed(seed))
        return TensorDataset(x, x.argmax(1))

    def train_dataloader(self):
        return DataLoader(self._data(0), batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self._data(1), batch_size=25)


def sgd(params):
    return torch.optim.SGD(params, lr=0.1)


def module(heads=2, width=4, seed=0, embedding=4, optimizer=sgd, backbone=None):
    torch.manual_seed(seed)
    backbone = backbone or nn.Sequential(nn.Linear(3, width), nn.Tanh())
    return MultiHeadClassifier(
        backbone, num_classes=3, heads=heads, embedding=embedding, example=[3], optimizer=optimizer
    )


def data(clients=3, public=0.2, seed=0, **kwargs):
    return FederatedDataModule(Blobs(), IID(), clients=clients, public=public, seed=seed, **kwargs)


def run(algorithm, rounds, made=None, clients=3, steps=2, trainer_args=None, ckpt=None, public=0.2, **kwargs):
    """Runs a federation; returns it with its data."""
    federation = Federation(made or module(), algorithm, LocalTraining(steps=steps), **kwargs)
    shards = data(clients, public)
    trainer(rounds, limit_val_batches=0, **(trainer_args or {})).fit(federation, shards, ckpt_path=ckpt)
    return federation, shards


def weights(federation, shards):
    """Every client's weights, flat."""
    clients = [shards.clients[i] for i in range(len(shards.clients))]
    found = {}
    for client, model in federation.models(clients):
        found[client.id] = torch.cat([p.detach().flatten() for p in model.parameters()])
    return found
