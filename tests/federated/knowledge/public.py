"""Clients with public data, small enough to train by hand."""

import torch

from lkd.federated import Federation, LocalTraining
from lkd.modules import Classifier

from ..quadratic import loader, trainer
from ..test_rounds import Noisy, samples
from .two_models import LR, batches, net, sgd

NUMBER = 8
"""Bytes of a number that travels: the round, the steps, the seed."""


class Rows:
    """Public samples of three numbers."""

    def __init__(self, size=10, seed=9):
        self.x = torch.randn(size, 3, generator=torch.Generator().manual_seed(seed)) + 1

    def __len__(self):
        return len(self.x)

    def batches(self, rows, batch_size):
        return (self.x[chunk] for chunk in torch.as_tensor(rows).split(batch_size))


def with_public(clients=None, public=None):
    clients, public = clients or samples(), public or Rows()
    for client in clients:
        client.public = public
    return clients


def model(seed=1, width=5, classes=2):
    return Classifier(net(seed, width, classes), num_classes=classes, optimizer=sgd)


def federate(algorithm, rounds=2, module=None, clients=None, local=None, seed=0, size=None, **kwargs):
    """Three clients of two architectures, unless told otherwise; all rounds in one epoch."""
    trainer_args = kwargs.pop("trainer_args", {})
    if module is None:
        module, kwargs = model(), {"other_models": [model(2, 7)], **kwargs}
    federation = Federation(module, algorithm, local or LocalTraining(epochs=1), seed=seed, **kwargs)
    trainer(1, **trainer_args).fit(federation, loader(clients or with_public(), size, per_epoch=rounds))
    return federation


def nets(classes=2):
    """What `federate`'s three clients start from."""
    return [net(1, 5, classes), net(2, 7, classes), net(1, 5, classes)]


def own(federation, client):
    """A client's network by parameter name."""
    tensors = federation.engine.host.store.get(client)["personal"]
    return {n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")}


def assert_own(federation, models, **tolerance):
    """Every client has these networks."""
    for i, expected in enumerate(models):
        found = own(federation, i)
        for name, value in expected.named_parameters():
            torch.testing.assert_close(found[name], value.detach(), **tolerance)


def descend(network, loss):
    """A step of plain gradient descent."""
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    with torch.no_grad():
        for p, g in zip(network.parameters(), gradients, strict=True):
            p.sub_(LR * g)


def train_privately(network, client, round, extra=None, seed=0):
    """A local epoch on the cross entropy, and on `extra(x)` where there is one."""
    for x, y in batches(client, round, seed):
        loss = -network(x).log_softmax(1)[torch.arange(len(y)), y].mean()
        descend(network, loss if extra is None else loss + extra(x))


class Speaking(Noisy):
    """Says what it makes of inputs, with dropout, batch norm and draws from all generators in its training."""

    def forward(self, x):
        return self.net(x)


__all__ = [
    "LR",
    "NUMBER",
    "Rows",
    "Speaking",
    "assert_own",
    "descend",
    "federate",
    "model",
    "net",
    "nets",
    "own",
    "train_privately",
    "with_public",
]
