"""Clients with a private and a shared network, small enough to train by hand."""

import torch
from torch import nn

from lkd.federated import Federation, LocalTraining
from lkd.federated.protocol.seeds import derive
from lkd.modules import PrivateSharedClassifier

from ..quadratic import loader, trainer
from ..test_rounds import Samples, samples

LR = 0.2


def net(seed, width=5, classes=2, features=3, noisy=False):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if noisy:  # of the tests for exactness
            layers = nn.Linear(features, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2)
            return nn.Sequential(*layers, nn.Linear(width, classes))
        return nn.Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, classes))


def sgd(params):
    return torch.optim.SGD(params, lr=LR, weight_decay=0.0)


def pair(private=1, shared=0, width=5, adapter=None, optimizer=sgd, noisy=False):
    """A private network of its own seed and width, and a shared one."""
    private, shared = net(private, width, noisy=noisy), net(shared, 4, noisy=noisy)
    return PrivateSharedClassifier(private, shared, 2, adapter=adapter, optimizer=optimizer)


def federate(algorithm, rounds=2, module=None, clients=None, local=None, seed=0, trainer_args=None, **kwargs):
    federation = Federation(
        module or pair(), algorithm, local or LocalTraining(epochs=1), seed=seed, **kwargs
    )
    data = loader(clients or samples(), per_epoch=rounds)
    trainer(1, **(trainer_args or {})).fit(federation, data)
    return federation


def batches(client, round, seed=0, epoch=0):
    """The batches of a client's local training, as the engine draws them."""
    return list(client.train_batches(derive(derive(seed, round, client.id), epoch)))


def kept(federation, client, prefix):
    """A client's own layers below a prefix."""
    own = federation.engine.host.store.get(client)["personal"]
    return {name.removeprefix(f"{prefix}."): t for name, t in own.items() if name.startswith(f"{prefix}.")}


def bits(federation):
    """All that a run leaves: weights, what clients keep, the algorithm's state."""
    found = dict(federation.state_dict())
    for i, groups in federation.engine.host.store.state_dict().items():
        found |= {f"{i}/{g}/{n}": t for g, group in groups.items() for n, t in group.items()}
    found |= {
        f"state/{g}/{n}": t for g, group in federation.algorithm.state.items() for n, t in group.items()
    }
    return found


def assert_same_bits(one, two):
    a, b = bits(one), bits(two)
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


class Placed(Samples):
    """A client that can say which of its samples are in a batch."""

    def train_places(self, seed):
        order = torch.randperm(self.num_samples, generator=torch.Generator().manual_seed(seed))
        return [chunk.numpy() for chunk in order.split(self.batch)]


def placed(sizes=(8, 12, 20), batch=4):
    return [Placed(i, n, len(sizes), batch) for i, n in enumerate(sizes)]
