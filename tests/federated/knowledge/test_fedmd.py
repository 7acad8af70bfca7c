"""FedMD: rounds by hand, known fixed points of mutual distillation, what travels, robust rules, public labels, what is refused."""

import math
import re
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import SumMetric

from lkd.datamodules.federated.public_data import PublicData
from lkd.datamodules.samples.batching import Batching
from lkd.federated import (
    DSFL,
    FCCL,
    CoordinateMedian,
    Cronus,
    FedDF,
    FedMD,
    Krum,
    KTpFL,
    Local,
    LocalTraining,
    TrimmedMean,
)
from lkd.federated.knowledge.common.consensus import consensus
from lkd.federated.protocol.seeds import derive
from lkd.modules import Classifier

from ..quadratic import Point
from ..test_rounds import samples
from .public import NUMBER, Rows, assert_own, federate, model, net, nets, train_privately, with_public
from .two_models import LR, assert_same_bits


def digest_loss(z, target, temperature):
    """Of the authors' code, or T^2 KL(target || softmax(z / T)) summed over classes, mean over samples; plain loops."""
    n, classes = z.shape
    if temperature is None:
        return sum((z[i, c] - target[i, c]).abs() for i in range(n) for c in range(classes)) / (n * classes)
    total = 0.0
    for i in range(n):
        exps = [torch.exp(z[i, c] / temperature) for c in range(classes)]
        total = total + sum(
            target[i, c] * (torch.log(target[i, c]) - torch.log(exps[c] / sum(exps))) for c in range(classes)
        )
    return temperature**2 * total / n


def agreed(models, x, temperature):
    with torch.no_grad():
        said = [m(x) if temperature is None else torch.softmax(m(x) / temperature, 1) for m in models]
    return sum(said) / len(said)


class Labeled(Rows):
    """With labels that can be learned; notes in its `calls` which samples were asked for, and how."""

    def __init__(self):
        super().__init__()
        self.y, self.calls = (self.x.sum(1) > 3).long(), []

    def batches(self, rows, batch_size):
        self.calls.append(("inputs", list(rows)))
        return super().batches(rows, batch_size)

    def labeled(self, rows, batch_size):
        self.calls.append(("labels", list(rows)))
        return ((self.x[chunk], self.y[chunk]) for chunk in torch.as_tensor(rows).split(batch_size))


def by_hand(rounds, temperature=None, warmup=1, momentum=0.0, epochs=1, pretrain=0):
    """All public samples in a batch. Pretraining, digestion and private training each begin with an empty optimizer."""
    models, clients = nets(), with_public(public=Labeled())
    x, y = clients[0].public.x, clients[0].public.y

    def descend(network, losses):
        optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=momentum)
        for loss in losses():
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    for network in models:
        descend(
            network, lambda m=network: (-m(x).log_softmax(1)[range(10), y].mean() for _ in range(pretrain))
        )
    for r in range(rounds):
        target = agreed(models, x, temperature)
        for network, client in zip(models, clients, strict=True):
            if r >= warmup:
                descend(
                    network,
                    lambda m=network, t=target: (digest_loss(m(x), t, temperature) for _ in range(epochs)),
                )
            batches = client.train_batches(derive(derive(0, r, client.id), 0))
            descend(network, lambda m=network, b=batches: (F.cross_entropy(m(a), y) for a, y in b))
    return models


@pytest.mark.parametrize("warmup", [0, 1])
def test_rounds_by_hand_as_published(warmup):
    """Mean logits, mean absolute error; then private training."""
    federation = federate(FedMD(warmup=warmup), rounds=3)
    assert_own(federation, by_hand(3, warmup=warmup))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_rounds_by_hand_with_probabilities(temperature):
    federation = federate(FedMD(of="probabilities", temperature=temperature, epochs=2), rounds=3)
    assert_own(federation, by_hand(3, temperature, epochs=2), rtol=1e-4, atol=1e-5)


def heavy(params):
    return torch.optim.SGD(params, lr=LR, weight_decay=0.0, momentum=0.9)


def heavy_models():
    small, wide = (
        Classifier(net(seed, width), num_classes=2, optimizer=heavy) for seed, width in ((1, 5), (2, 7))
    )
    return {"module": small, "other_models": [wide]}


def test_momentum_of_the_digestion_does_not_reach_the_private_training():
    federation = federate(FedMD(epochs=3), rounds=3, **heavy_models())
    assert_own(federation, by_hand(3, momentum=0.9, epochs=3))


@pytest.mark.parametrize("warmup", [0, 1, 9])
def test_rounds_by_hand_after_pretraining(warmup):
    """On labels of the public data, before anything else, once; its momentum reaches neither others nor what follows."""
    clients = with_public(public=Labeled())
    federation = federate(FedMD(warmup=warmup, pretrain=5), rounds=3, clients=clients, **heavy_models())
    assert_own(federation, by_hand(3, warmup=warmup, momentum=0.9, pretrain=5))


class Scores(LightningModule):
    """Says w of every sample, whatever it is; trains on h/2 ||w - e||^2."""

    def __init__(self, start=(0.0, 0.0, 0.0), lr=0.2):
        super().__init__()
        self.w, self.lr = nn.Parameter(torch.tensor(start)), lr

    def forward(self, x):
        return self.w.expand(len(x), -1)

    def training_step(self, batch, batch_idx):
        h, e = batch
        return (0.5 * h.float() * (self.w - e.float()).square().sum(1)).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def score_clients(h, optima):
    return with_public([Point(i, [(h, e)], len(optima)) for i, e in enumerate(optima)])


def final(federation, clients):
    return [m.w.detach().clone().double() for _, m in federation.models(clients)]


class Squares(FedMD):
    """Digests by the mean squared error, so that a round is linear."""

    def compare(self, logits, targets):
        return F.mse_loss(logits, targets)


def test_fixed_point_of_a_linear_digestion():
    """Per round w <- (1 - a) w + a mean, then w <- (1 - b) w + b e. The mean goes to that of the optima, and each client
    to a point between it and its own: (1 - (1 - a)(1 - b)) w = (1 - b) a mean + b e."""
    optima, lr, h = [(1.0, 0.0, 5.0), (0.0, 3.0, -1.0), (2.0, 0.0, -1.0)], 0.2, 0.5
    clients = score_clients(h, optima)
    federation = federate(
        Squares(warmup=0), 150, Scores(lr=lr), clients, other_models=[Scores((4.0, -4.0, 0.0), lr)]
    )
    a, b = lr * 2 / 3, lr * h
    mean = [sum(column) / 3 for column in zip(*optima, strict=True)]
    for w, e in zip(final(federation, clients), optima, strict=True):
        expected = [
            ((1 - b) * a * m + b * own) / (1 - (1 - a) * (1 - b)) for m, own in zip(mean, e, strict=True)
        ]
        assert w.tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_mutual_distillation_alone_ends_at_the_softmax_of_the_mean_logits(temperature):
    """A step moves w_k by -lr T (p_k - mean of p), so that the sum over clients of w never changes; where they agree,
    each has the mean of the initial logits (up to a constant)."""
    starts = (1.0, 0.0, -1.5), (-1.0, 2.0, 0.5)
    clients = score_clients(0.0, [(0.0, 0.0, 0.0)] * 3)
    federation = federate(
        FedMD(of="probabilities", temperature=temperature, warmup=0),
        100,
        Scores(starts[0], 1.0 / temperature),
        clients,
        other_models=[Scores(starts[1], 1.0 / temperature)],
    )
    mean = [
        (2 * a + b) / 3 for a, b in zip(*starts, strict=True)
    ]  # clients 0 and 2 have the first architecture
    exps = [math.exp(m) for m in mean]
    for w in final(federation, clients):
        assert w.softmax(0).tolist() == pytest.approx([e / sum(exps) for e in exps], abs=1e-3)


def test_one_client_and_identical_clients_digest_nothing():
    """Bit for bit local training: the consensus is what each says already."""
    for number in (1, 4):
        optima = [(1.0, 0.0, 5.0)] * number
        one, two = (
            federate(a, 3, Scores((0.3, 0.1, 0.7)), score_clients(0.5, optima)) for a in (FedMD(), Local())
        )
        for a, b in zip(
            final(one, score_clients(0.5, optima)), final(two, score_clients(0.5, optima)), strict=True
        ):
            assert torch.equal(a, b)


def test_without_an_exchange_it_is_local_training_bit_for_bit():
    one, two = federate(FedMD(warmup=9)), federate(Local())
    for i in range(3):
        a, b = (f.engine.host.store.get(i)["personal"] for f in (one, two))
        assert all(torch.equal(a[n], b[n]) for n in a)


def test_logits_travel_up_and_targets_down_and_nothing_else():
    """Of at most all public samples, each once, though 5000 are asked for."""
    federation = federate(FedMD(), rounds=3)
    floats, rounds = 10 * 2 * 4, 2  # samples, classes, bytes; the first of three rounds is private
    # train: round and steps; predict: round and seed; train: round, steps, seed and targets
    assert federation.bytes_down == 3 * (2 * NUMBER + rounds * (5 * NUMBER + floats))
    assert federation.bytes_up == 3 * (NUMBER + rounds * (NUMBER + floats))


def test_public_batches_are_drawn_anew_and_do_not_pile_up():
    drawn = []

    class Watched(Rows):
        def batches(self, rows, batch_size):
            drawn.append([int(row) for row in rows])
            return super().batches(rows, batch_size)

    federate(FedMD(samples=4, warmup=0), rounds=4, clients=with_public(public=Watched()))
    assert drawn.pop(0) == [0]  # the sizes of all outputs, before anybody works
    rounds = [drawn[i : i + 6] for i in range(0, len(drawn), 6)]  # three predict, three digest
    assert len(rounds) == 4
    for calls in rounds:
        assert len({frozenset(rows) for rows in calls}) == 1 and all(len(rows) == 4 for rows in calls)
    assert len({frozenset(calls[0]) for calls in rounds}) > 1


def test_same_seed_same_bits_in_any_order():
    def made(clients=None, **kwargs):
        clients = with_public(clients, Labeled())
        return federate(FedMD(samples=7, batch_size=3, warmup=0, pretrain=2), clients=clients, **kwargs)

    one = made()
    assert_same_bits(one, made())
    assert_same_bits(one, made(clients=samples()[::-1]))
    a, b = (f.engine.host.store.get(0)["personal"] for f in (one, made(seed=1)))
    assert any(not torch.equal(a[n], b[n]) for n in a)


class Watched(Classifier):
    """Notes the batches that it trains on, and logs how many samples they have, as a sum and as a metric."""

    seen: ClassVar[list] = []

    def __init__(self, network):
        super().__init__(network, 2, optimizer=heavy)
        self.samples = SumMetric()

    def training_step(self, batch, batch_idx=0):
        self.seen.append(batch)
        self.samples.update(len(batch[1]))
        self.log("train/metric", self.samples)
        self.log("train/sum", float(len(batch[1])), reduce_fx="sum")
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_pretraining_passes_over_all_public_samples_with_their_labels(accumulate, monkeypatch):
    """Three epochs of batches of 4, 4 and 2, in an order that differs from epoch to epoch and from client to client."""
    monkeypatch.setattr(Watched, "seen", [])
    clients = with_public(public=Labeled())
    algorithm, work = FedMD(batch_size=4, pretrain=3), LocalTraining(accumulate_grad_batches=accumulate)
    federate(algorithm, 1, Watched(net(1)), clients, work, other_models=[Watched(net(2, 7))])
    public, orders = clients[0].public, []
    for epoch in range(9):
        found = Watched.seen[3 * epoch : 3 * epoch + 3]
        assert [len(y) for _, y in found] == [4, 4, 2]
        x, y = (torch.cat(part) for part in zip(*found, strict=True))
        rows = (x[:, None] == public.x).all(2).int().argmax(1)
        assert torch.equal(y, public.y[rows])
        orders.append(rows.tolist())
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len({tuple(order) for order in orders}) == 9
    assert len(Watched.seen) == 3 * 9 + sum(client.num_batches() for client in clients)


def test_what_clients_log_is_of_their_own_data():
    federation = federate(FedMD(batch_size=4, pretrain=3), 1, Watched(net(1)), with_public(public=Labeled()))
    for record, client in zip(federation.records, samples(), strict=True):
        assert record.metrics["train/metric"] == record.metrics["train/sum"] == client.num_samples
        assert record.steps == client.num_batches()


def test_a_client_that_is_first_drawn_later_pretrains_then_and_once():
    """Two of three clients a round. Labels come before the round's inputs, which two ask for twice."""
    public = Labeled()
    federation = federate(FedMD(warmup=0, pretrain=2), 6, clients=with_public(public=public), size=2)
    asked = "".join(kind[0] for kind, _ in public.calls)
    assert re.fullmatch("li((ll)*iiii){6}", asked) and asked.count("l") == 1 + 2 * 3
    assert not asked.startswith("li" + "l" * 6)  # the third client was not there at first
    assert all(federation.engine.host.store.get(i)["memory"].keys() == {"pretrained"} for i in range(3))


@pytest.mark.parametrize(
    "algorithm",
    [FedMD(), FedMD(of="probabilities"), DSFL(), Cronus(), KTpFL(), FCCL(), FedDF(steps=2)],
    ids=lambda algorithm: type(algorithm).__name__,
)
def test_nobody_else_sees_public_labels(algorithm):
    public = Labeled()
    federation = federate(algorithm, 3, clients=with_public(public=public))
    assert {kind for kind, _ in public.calls} == {"inputs"}
    assert not any(record.error for record in federation.records)


def test_pretraining_costs_a_number_a_round():
    public = Labeled()
    bare, more = (federate(FedMD(pretrain=p), 3, clients=with_public(public=public)) for p in (0, 2))
    assert more.bytes_down == bare.bytes_down + 3 * 3 * NUMBER and more.bytes_up == bare.bytes_up
    assert all("memory" not in bare.engine.host.store.get(i) for i in range(3))


class Broken(Rows):
    def batches(self, rows, batch_size):
        if len(rows) > 1:
            raise OSError("the disk is gone")
        return super().batches(rows, batch_size)


def test_a_client_that_cannot_predict_is_left_out_of_the_mean():
    clients = with_public()
    clients[1].public = Broken()
    federation = federate(FedMD(warmup=0), rounds=1, clients=clients)
    models, x = nets(), clients[0].public.x
    target = agreed([models[0], models[2]], x, None)
    for i in (0, 2):
        loss = digest_loss(models[i](x), target, None)
        for p, g in zip(
            models[i].parameters(), torch.autograd.grad(loss, list(models[i].parameters())), strict=True
        ):
            p.data.sub_(LR * g)
        train_privately(models[i], clients[i], 0)
        found = dict(federation.engine.host.store.get(i)["personal"])
        for name, value in models[i].named_parameters():
            torch.testing.assert_close(found[f"network.{name}"], value.detach())
    assert (
        "the disk is gone" in federation.records[1].error
        and 1 not in federation.engine.host.store.state_dict()
    )


def test_robust_rules_join_what_is_said():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, 3, generator=g, dtype=torch.float64)
    median = FedMD(rule=CoordinateMedian()).agree(None, logits, [])
    torch.testing.assert_close(median, logits.median(0).values)
    trimmed = FedMD(of="probabilities", rule=TrimmedMean(0.2)).agree(None, logits, [])
    middle = logits.softmax(-1).sort(0).values[1:4].mean(0)
    torch.testing.assert_close(trimmed, middle / middle.sum(1, keepdim=True))


def test_the_mean_of_all_models_and_of_some_samples_more_than_others():
    g = torch.Generator().manual_seed(0)
    logits, weights = torch.randn(3, 4, 2, generator=g), torch.rand(3, 4, generator=g)
    expected = torch.zeros(4, 2)
    for i in range(4):
        for k in range(3):
            expected[i] += weights[k, i] * logits[k, i].softmax(0) / weights[:, i].sum()
    torch.testing.assert_close(consensus(logits, weights=weights), expected)
    same = consensus(logits, weights=weights[:, :1].expand(3, 4))
    torch.testing.assert_close(consensus(logits, weights=weights[:, 0]), same)


def three_classes():
    return federate(FedMD(), module=model(1), other_models=[model(2, 7, classes=3)])


def unlabeled(pretrain=2, **models):
    """Inputs alone, as noise is."""
    data = TensorDataset(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)))
    public = PublicData(Batching(DataLoader(data)), np.arange(6))
    return federate(FedMD(warmup=5, pretrain=pretrain), clients=with_public(public=public), **models)


def no_public(empty):
    clients = samples()
    for client in clients:
        client.public = Rows(size=0) if empty else None
    return federate(FedMD(), clients=clients)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FedMD(samples=0), "samples=0 must be 1 or more"),
        (lambda: FedMD(samples=-5), "samples=-5 must be 1 or more"),
        (lambda: FedMD(epochs=0), "epochs=0 must be 1 or more"),
        (lambda: FedMD(batch_size=0), "batch_size=0 must be 1 or more"),
        (lambda: FedMD(warmup=-1), "warmup=-1 must be 0 or more"),
        (lambda: FedMD(pretrain=-1), "pretrain=-1 must be 0 or more"),
        (
            unlabeled,
            r"pretrain=2 needs public data with labels, and 0 needs none: the public data \(TensorDataset\) have no labels",
        ),
        (lambda: FedMD(of="votes"), "of='votes' must be 'logits' or 'probabilities'"),
        (lambda: FedMD(temperature=0.0), "temperature=0.0 must be above 0"),
        (lambda: FedMD(rule="median"), "rule='median' must be an object of Rule"),
        (
            lambda: federate(FedMD(rule=Krum(byzantine=1))),
            "rule=Krum as it is set needs at least 5 clients, but 3",
        ),
        (lambda: federate(FedMD(layer="nose")), "layer='nose' is not a layer of Classifier"),
        (lambda: no_public(False), "exchanges what clients say of public data, and there are none"),
        (lambda: no_public(True), "exchanges what clients say of public data, and there are none"),
        (
            three_classes,
            r"different classes, 2 at model \(client 0, 2\) and 3 at other_models\[0\] \(client 1\): clients that exchange",
        ),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_bad_input_is_refused_before_anybody_trains(monkeypatch):
    monkeypatch.setattr(Watched, "seen", [])
    many = {"module": Watched(net(1)), "other_models": [Watched(net(2, 7, 3))]}
    clients = with_public(public=Labeled())
    for algorithm in (FedMD(warmup=5), FedMD(warmup=5, pretrain=1)):
        with pytest.raises(ValueError, match="different classes"):
            federate(algorithm, clients=clients, **many)
    with pytest.raises(ValueError, match="have no labels"):
        unlabeled(module=Watched(net(1)))
    assert Watched.seen == []
    unlabeled(pretrain=0, module=Watched(net(1)))
    assert Watched.seen


def test_a_temperature_of_logits_is_refused():
    with pytest.raises(ValueError, match=r"temperature=4\.0 softens probabilities"):
        FedMD(temperature=4.0)
