"""Algorithms that change the clients' loss, and distillation inside clients."""

import copy

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import nn

from lkd.callbacks import Distillation
from lkd.federated import MOON, FedAvg, Federation, FedNTD, LocalTraining
from lkd.federated.algorithms.moon import model_contrast
from lkd.losses import KD, FitNets
from lkd.teachers import Teacher

from .quadratic import loader, trainer
from .test_rounds import Samples, samples


class Net(LightningModule):
    """A classifier whose forward gives logits."""

    def __init__(self, width=6):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, width), nn.Tanh())
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        return self.head(self.body(x))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(algorithm, rounds=2, clients=None, steps=3, callbacks=(), module=None):
    torch.manual_seed(0)
    federation = Federation(module or Net(), algorithm, LocalTraining(steps=steps))
    trainer(rounds, callbacks=list(callbacks)).fit(federation, loader(clients or samples()))
    assert all(not r.error for r in federation.records), federation.records
    return federation


def by_hand(loss, rounds=2, steps=3, client=None):
    """One client's rounds in plain PyTorch; `loss(net, server, former, x, y)` is added to the cross-entropy."""
    torch.manual_seed(0)
    net = Net()
    former = copy.deepcopy(net)
    client = client or Samples(0, 4, 1)
    batch = next(iter(client.ordered_batches("train")))
    for _ in range(rounds):
        server = copy.deepcopy(net)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(steps):
            optimizer.zero_grad()
            (F.cross_entropy(net(batch[0]), batch[1]) + loss(net, server, former, *batch)).backward()
            optimizer.step()
        former = copy.deepcopy(net)
    return net


class Net3(Net):
    """With three classes the others have a distribution."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 3)


def test_fedntd_is_its_formula(monkeypatch):
    import tests.federated.test_loss_level as here

    client = Samples(0, 4, 1)
    client.y = torch.tensor([0, 1, 2, 1])
    monkeypatch.setattr(here, "Net", Net3)

    def loss(net, server, former, x, y):
        tau, keep = 2.0, F.one_hot(y, 3) == 0
        p = F.softmax(server(x).detach()[keep].view(len(x), -1) / tau, 1)
        log_q = F.log_softmax(net(x)[keep].view(len(x), -1) / tau, 1)
        return 0.7 * tau**2 * F.kl_div(log_q, p, reduction="batchmean")

    class Same(Samples):
        def train_batches(self, seed):
            yield from self.ordered_batches("train")

    same_client = Same(0, 4, 1)
    same_client.y = client.y
    torch.manual_seed(0)
    federation = fit(FedNTD(beta=0.7, temperature=2.0), clients=[same_client], module=None)
    reference = by_hand(loss, client=same_client)
    for a, b in zip(federation.model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_moon_is_its_formula():
    class Same(Samples):
        def train_batches(self, seed):
            yield from self.ordered_batches("train")

    def loss(net, server, former, x, y):
        z, near, far = (m.body(x) for m in (net, server, former))
        tau = 0.5
        a = torch.exp(F.cosine_similarity(z, near.detach()) / tau)
        b = torch.exp(F.cosine_similarity(z, far.detach()) / tau)
        return 2.0 * -torch.log(a / (a + b)).mean()

    client = Same(0, 4, 1)
    federation = fit(MOON("body", mu=2.0), rounds=3, clients=[client])
    reference = by_hand(loss, rounds=3, client=client)
    for a, b in zip(federation.model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert set(federation.engine.host.store.get(0)) == {"former"}


@pytest.mark.parametrize(
    "algorithm", [FedNTD(beta=0.0), MOON("body", mu=0.0)], ids=lambda a: type(a).__name__
)
def test_without_weight_they_are_fedavg(algorithm):
    for a, b in zip(fit(algorithm).x.values(), fit(FedAvg()).x.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)


def test_model_contrast_gradient():
    z = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    others = torch.randn(2, 4, 5, dtype=torch.float64)
    torch.autograd.gradcheck(lambda t: model_contrast(t, *others), z)


def test_a_missing_layer_is_named_before_the_first_round():
    with pytest.raises(ValueError, match="'bodi' is not a layer"):
        fit(MOON("bodi"))


def test_distillation_callback_teaches_every_client():
    """The teacher alone (alpha=0): clients learn its answers, whatever their labels."""
    torch.manual_seed(5)
    teacher = Net(16)
    for _ in range(200):
        x = torch.randn(64, 3) + 1
        optimizer = torch.optim.SGD(teacher.parameters(), lr=0.5)
        optimizer.zero_grad()
        F.cross_entropy(teacher(x), (x[:, 0] > 1).long()).backward()
        optimizer.step()
    callback = Distillation(Teacher(teacher), [KD(temperature=1.0)], alpha=0.0)
    clients = samples()
    x = torch.cat([c.x for c in clients])
    wanted = teacher(x).argmax(1)
    for c in clients:
        c.y = 1 - c.y  # labels are wrong, and not looked at
    federation = fit(FedAvg(), rounds=30, clients=clients, steps=10, callbacks=[callback])
    agreement = (federation(x).argmax(1) == wanted).float().mean()
    start = (Federation(Net())(x).argmax(1) == wanted).float().mean()
    assert agreement > 0.85 > start


def test_adapters_stay_with_their_clients(tmp_path):
    term = FitNets(weight=1.0, student_layer="body", teacher_layer="body")
    callback = Distillation(Teacher(Net(16)), [term], alpha=1.0)
    federation = fit(FedAvg(), callbacks=[callback])
    assert not any("adapter" in name for name in (*federation.x, *federation.state_dict()))
    kept = [federation.engine.host.store.get(i)["personal"] for i in range(3)]
    names = [n for n in kept[0] if "adapter" in n]
    assert names
    assert not torch.equal(kept[0][names[0]], kept[1][names[0]])
    again = fit(FedAvg(), callbacks=[Distillation(Teacher(Net(16)), [term], alpha=1.0)])
    assert federation.x.keys() == again.x.keys()


def test_distillation_is_detached_after_the_fit():
    callback = Distillation(Teacher(Net()), [KD()], alpha=1.0)
    federation = fit(FedAvg(), callbacks=[callback])
    assert "training_step" not in vars(federation.students[0])
