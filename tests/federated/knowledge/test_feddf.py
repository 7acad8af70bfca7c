"""FedDF: rounds by hand, when distillation stops, degenerate cases, what travels, what is refused."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lkd.federated import CoordinateMedian, FedAvg, FedDF, Federation, GeometricMedian
from lkd.federated.knowledge.common.distill_public import soft_cross_entropy
from lkd.federated.knowledge.common.distill_with_early_stop import fit
from lkd.modules import Classifier

from ..quadratic import loader, trainer
from ..test_rounds import samples
from .public import Rows, federate, model, net, train_privately, with_public
from .two_models import assert_same_bits, sgd

FEW = Rows(size=9)
"""Of fewer than ten public samples none is kept apart, and all are in a batch: their order counts for nothing."""


def few():
    return with_public(public=FEW)


def server(federation):
    return [m.network for m in (federation.model, *federation.other_models)]


def copy_of(network):
    twin = net(0, network[0].out_features, network[2].out_features)
    twin.load_state_dict(network.state_dict())
    return twin


def adam(network, x, target, steps, lr, temperature, most):
    """Kingma and Ba, Algorithm 1, whose rate goes down by a cosine; T^2 KL(target || softmax(z / T)), mean over samples."""
    m = [torch.zeros_like(p) for p in network.parameters()]
    v = [torch.zeros_like(p) for p in network.parameters()]
    for t in range(steps):
        loss, z = 0.0, network(x) / temperature
        for i in range(len(x)):
            log_p = z[i] - torch.log(torch.exp(z[i]).sum())
            loss = loss + temperature**2 * sum(
                q * (q.log() - lp) for q, lp in zip(target[i], log_p, strict=True)
            )
        gradients = torch.autograd.grad(loss / len(x), list(network.parameters()))
        rate = lr * (1 + math.cos(math.pi * t / most)) / 2
        with torch.no_grad():
            for p, g, mi, vi in zip(network.parameters(), gradients, m, v, strict=True):
                mi.mul_(0.9).add_(0.1 * g)
                vi.mul_(0.999).add_(0.001 * g * g)
                p.sub_(rate * (mi / (1 - 0.9 ** (t + 1))) / ((vi / (1 - 0.999 ** (t + 1))).sqrt() + 1e-8))


def by_hand(rounds, steps, lr, temperature=1.0, of="logits", average=True):
    """Two architectures: clients 0 and 2 have the first one, client 1 the second."""
    servers, kinds, clients = [net(1), net(2, 7)], [0, 1, 0], few()
    for r in range(rounds):
        locals_ = [copy_of(servers[k]) for k in kinds]
        for network, client in zip(locals_, clients, strict=True):
            train_privately(network, client, r)
        with torch.no_grad():
            said = [m(FEW.x) for m in locals_]
            if of == "logits":
                target = torch.softmax(sum(said) / 3 / temperature, 1)
            else:
                target = sum(torch.softmax(z / temperature, 1) for z in said) / 3
        for kind, network in enumerate(servers):
            mine = [(c.num_samples, m) for c, m, k in zip(clients, locals_, kinds, strict=True) if k == kind]
            if average:
                total = sum(n for n, _ in mine)
                for parts in zip(network.parameters(), *(m.parameters() for _, m in mine), strict=True):
                    parts[0].data = sum(n * p.data for (n, _), p in zip(mine, parts[1:], strict=True)) / total
            adam(network, FEW.x, target, steps, lr, temperature, steps)
    return servers


def assert_server(federation, expected):
    for ours, theirs in zip(server(federation), expected, strict=True):
        for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-5, msg=name)


@pytest.mark.parametrize(
    "kwargs", [{}, {"temperature": 2.0}, {"of": "probabilities", "temperature": 2.0}, {"average": False}]
)
def test_rounds_by_hand(kwargs):
    """Each architecture starts from the mean of its own clients, and all learn from the ensemble of all."""
    federation = federate(FedDF(steps=6, lr=0.02, check=6, **kwargs), clients=few())
    assert_server(federation, by_hand(2, 6, 0.02, **kwargs))


def test_it_brings_the_server_nearer_to_the_ensemble_than_the_mean_of_weights_does():
    def gap(algorithm):
        federation = federate(algorithm, 1, clients=few())
        locals_ = [net(1), net(2, 7), net(1)]
        for network, client in zip(locals_, few(), strict=True):
            train_privately(network, client, 0)
        with torch.no_grad():
            target = (sum(m(FEW.x) for m in locals_) / 3).softmax(1)
            return [
                float((target * (target.log() - m(FEW.x).log_softmax(1))).sum(1).mean())
                for m in server(federation)
            ]

    before, after = gap(FedAvg()), gap(FedDF(steps=200, lr=0.01))
    assert all(a < 0.1 * b for a, b in zip(after, before, strict=True))


def test_without_steps_it_is_fedavg_and_needs_no_public_data():
    one = federate(FedDF(steps=0), clients=samples())
    two = federate(FedAvg(), clients=samples())
    assert_same_bits(one, two)


def test_what_travels_is_fedavgs():
    one, two = federate(FedDF(steps=3), clients=few()), federate(FedAvg(), clients=few())
    assert (one.bytes_up, one.bytes_down) == (two.bytes_up, two.bytes_down)


def test_the_ensemble_of_one_client_teaches_it_nothing():
    """The student is its teacher: what is left of the gradient is rounding."""
    clients = few()[:1]
    one, two = (
        federate(a, 2, module=model(), clients=clients, server_optimizer=lambda p: torch.optim.SGD(p, lr=1.0))
        for a in (FedDF(steps=5, lr=1e-6), FedAvg())
    )
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_an_architecture_without_a_client_in_the_round_learns_from_the_others():
    """It starts from its own weights."""
    federation = Federation(model(), FedDF(steps=30, lr=0.01), other_models=[model(2, 7)])
    data = DataLoader([[few()[0], few()[2]]], batch_size=None, collate_fn=lambda cohort: cohort)
    trainer(1).fit(federation, data)
    student, start = federation.other_models[0].network, net(2, 7)
    locals_ = [net(1), net(1)]
    for network, client in zip(locals_, (few()[0], few()[2]), strict=True):
        train_privately(network, client, 0)
    with torch.no_grad():
        target = (sum(m(FEW.x) for m in locals_) / 2).softmax(1)
        far, near = (float(soft_cross_entropy(m(FEW.x), target)) for m in (start, student))
    assert near < far - 0.01


def noisy(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 2)
        return Classifier(nn.Sequential(*layers), num_classes=2, optimizer=sgd)


def made(**kwargs):
    given = {"module": noisy(1), "other_models": [noisy(2)], "clients": with_public(), **kwargs}
    return federate(FedDF(steps=4, batch_size=4, check=2), **given)


def test_same_seed_same_bits_in_any_order():
    """With dropout in the distillation, whose draws must not depend on which client trained last."""
    one = made()
    assert_same_bits(one, made())
    assert_same_bits(one, made(clients=with_public(samples()[::-1])))
    assert not torch.equal(one.model.network[0].weight, made(seed=1).model.network[0].weight)


def test_statistics_of_the_batches_are_the_students():
    """Neither those of the start nor the clients' mean."""
    algorithm = FedDF(steps=60, lr=0.02, check=20, average=False)
    student, averaged = (
        federate(a, 1, module=noisy(1), clients=few()).model.network for a in (algorithm, FedAvg())
    )
    assert not torch.equal(student[0].weight, noisy(1).network[0].weight)
    for other in (averaged, noisy(1).network):
        assert not torch.allclose(student[1].running_mean, other[1].running_mean, atol=1e-3)


class Loop:
    """As much of a local loop as `fit` needs."""

    def __init__(self):
        self.trainer = trainer(1)

    def on_device(self, batch):
        return batch


def distilled(steps=40, lr=0.01, patience=1000, check=1, public=None, **kwargs):
    student, public = model(3), public or Rows(size=30)
    with torch.no_grad():
        targets = net(4)(public.x).softmax(1)
    looked = []

    def loss(logits, wanted):
        value = soft_cross_entropy(logits, wanted)
        if not logits.requires_grad:
            looked.append(float(value))
        return value

    fit(
        student,
        list(student.parameters()),
        public,
        targets,
        loss,
        Loop(),
        0,
        steps,
        8,
        lr,
        patience,
        check,
        **kwargs,
    )
    return student, looked


def test_it_ends_with_the_best_weights_on_samples_kept_apart():
    student, looked = distilled(lr=0.3)
    again, more = distilled(lr=0.3)
    assert looked == more and all(
        torch.equal(a, b) for a, b in zip(student.parameters(), again.parameters(), strict=True)
    )
    assert len(looked) == 41 and min(looked) < looked[0]
    public = Rows(size=30)
    apart = torch.from_numpy(np.random.default_rng(0).permutation(30)[:3])
    with torch.no_grad():
        targets = net(4)(public.x).softmax(1)
        found = float(soft_cross_entropy(student(public.x[apart]), targets[apart]))
    assert found == pytest.approx(min(looked), rel=1e-6)


def test_if_nothing_helps_it_ends_as_it_began_and_stops_in_time():
    student, looked = distilled(lr=100.0, steps=50, patience=4, check=2)
    assert len(looked) == 1 + 2  # two looks of two steps each without a lower loss
    for a, b in zip(student.network.parameters(), net(3).parameters(), strict=True):
        assert torch.equal(a, b)


def nobody():
    clients = samples()
    for client in clients:
        client.public = None
    return clients


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FedDF(steps=-1), "steps=-1 must be 0 or more"),
        (lambda: FedDF(steps=0, average=False), "the server's model would stay as it is"),
        (lambda: FedDF(batch_size=0), "batch_size=0 must be 1 or more"),
        (lambda: FedDF(lr=0.0), "lr=0.0 must be above 0"),
        (lambda: FedDF(of="votes"), "of='votes' must be 'logits' or 'probabilities'"),
        (
            lambda: federate(FedDF(), clients=nobody()),
            "exchanges what clients say of public data, and there are none",
        ),
        (
            lambda: federate(FedDF(), clients=few(), personal_layers=["network.2"]),
            "personal_layers: network.2.* stays with each client",
        ),
        (
            lambda: federate(FedDF(), clients=few(), module=noisy(1), personal_layers=["batchnorm"]),
            "personal_layers: network.1.* stays with each client",
        ),
        (
            lambda: federate(
                FedDF(), clients=few(), module=model(1), other_models=[model(2)], shared_layers=["network.2"]
            ),
            "shared_layers: FedDF distills into every architecture by itself",
        ),
        (
            lambda: federate(FedDF(), clients=few(), module=model(1), other_models=[model(2, 7, classes=3)]),
            r"different classes, 2 at model \(client 0, 2\) and 3 at other_models\[0\] \(client 1\)",
        ),
        (
            lambda: federate(FedDF(), clients=few(), module=model(1), aggregator=CoordinateMedian()),
            "protects the mean of the weights alone",
        ),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_with_rules_for_weights_and_answers_it_runs():
    algorithm = FedDF(steps=2, rule=GeometricMedian(), of="probabilities")
    federation = federate(algorithm, 1, module=model(), clients=few(), aggregator=CoordinateMedian())
    assert not any(record.error for record in federation.records) and loader(few())
