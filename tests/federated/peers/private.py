"""Clients with validation data of their own, and a small module with two heads."""

import torch
from torch import nn

from lkd.federated.protocol.seeds import derive
from lkd.modules import MultiHeadClassifier

from ..test_rounds import Samples


class Private(Samples):
    """As many validation samples as training samples."""

    def has(self, part):
        return part in ("train", "val")

    def ordered_batches(self, part):
        x, y = (self.x, self.y) if part == "train" else self.validation()
        yield from zip(x.split(3), y.split(3), strict=True)

    def validation(self):
        x = torch.randn(self.x.shape, generator=torch.Generator().manual_seed(100 + self.id)) + self.id
        return x, (x.sum(1) > 3 * self.id).long()


def private():
    return [Private(0, 8), Private(1, 12), Private(2, 20)]


def sgd(params):
    return torch.optim.SGD(params, lr=0.2, momentum=0.9, weight_decay=0.1)


def two_heads_module(norm=False, classes=2, optimizer=sgd):
    """`norm`: with batch normalization."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        middle = [nn.BatchNorm1d(5)] if norm else []
        backbone = nn.Sequential(nn.Linear(3, 5), *middle, nn.Tanh(), nn.Dropout(0.2))
        return MultiHeadClassifier(backbone, classes, heads=1, embedding=4, example=[3], optimizer=optimizer)


def batches(client, round, seed=0):
    """The batches of an epoch of a client's local training, as the engine draws them."""
    return list(client.train_batches(derive(derive(seed, round, client.id), 0)))
