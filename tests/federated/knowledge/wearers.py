"""Clients with different sensors, small enough to train by hand."""

import torch
import torch.nn.functional as F

from lkd.federated import Federation, LocalTraining

from ...modules.modalities import LR, Public, Wearer, client
from ..quadratic import loader, trainer

OWNED = (("acc", "gyro"), ("acc",), ("gyro",))
SIZE = 8
"""Of the embeddings."""


def wearers(missing=0.3, public=None, owned=OWNED):
    """One with both sensors, one with each; of different sizes."""
    clients = [
        Wearer(i, n, m, missing=missing) for i, (n, m) in enumerate(zip((8, 12, 20), owned, strict=True))
    ]
    for one in clients:
        one.public = public
    return clients


def modules(owned=OWNED, **kwargs):
    return [client(m, seed=i, **kwargs) for i, m in enumerate(owned)]


def federate(algorithm, rounds=3, clients=None, made=None, trainer_args=None, client_models=None, **kwargs):
    made = made or modules()
    work = kwargs.pop("work", None) or LocalTraining(epochs=1)
    federation = Federation(
        made[0], algorithm, work, other_models=made[1:], client_models=client_models, **kwargs
    )
    data = loader(wearers(public=Public()) if clients is None else clients, per_epoch=rounds)
    trainer(1, **(trainer_args or {})).fit(federation, data)
    return federation


def embed(net, x):
    """Embeddings of each modality by the samples that have it, and the loss on labels; the mean is the fusion."""
    rows = {m: x["present"][m].nonzero()[:, 0] for m in net.modalities}
    z = {m: F.linear(net.encoders[m](x[m][r]).mean(2), net.projections[m].weight, net.projections[m].bias)
         for m, r in rows.items() if len(r)}  # fmt: skip
    return z, rows


def task_loss(net, z, rows, y):
    """Cross entropy of the fused embedding, and of each modality's head."""
    fused = sum(torch.zeros(len(y), SIZE).index_put((rows[m],), own) for m, own in z.items())
    many = sum(torch.zeros(len(y)).index_put((rows[m],), torch.ones(len(rows[m]))) for m in z)
    heads = [
        F.cross_entropy(F.linear(own, net.heads[m].weight, net.heads[m].bias), y[rows[m]])
        for m, own in z.items()
    ]
    return F.cross_entropy(net.head(fused / many[:, None]), y) + sum(heads) / len(heads)


def descend(net, loss):
    """A step of plain gradient descent; what the loss does not reach stays."""
    parameters = list(net.parameters())
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    with torch.no_grad():
        for p, g in zip(parameters, gradients, strict=True):
            if g is not None:
                p.sub_(LR * g)


def own(federation, i):
    """A client's network by parameter name."""
    return {n.removeprefix("network."): t for n, t in federation.engine.host.store.get(i)["personal"].items()}


def assert_own(federation, nets, **tolerance):
    for i, net in enumerate(nets):
        found = own(federation, i)
        for name, value in net.named_parameters():
            torch.testing.assert_close(found[name], value.detach(), msg=f"{i} {name}", **tolerance)


def assert_local(federation, context):
    """Every client is what it becomes by training alone, bit for bit."""
    for i in context.engine.host.store.state_dict():
        a, b = own(federation, i), own(context, i)
        assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
