"""Clients with different modalities in one federation: who is averaged with whom, by hand, and what they exchange."""

import copy

import pytest
import torch
import torch.nn.functional as F

from lkd.callbacks import Distillation
from lkd.federated import FD, MHD, FedAvg, Federation, FedMD, FedProto, LocalTraining, Ring
from lkd.federated.server.round import TooFewClientsError
from lkd.losses import KD, FitNets
from lkd.teachers import Teacher

from ..modules.modalities import LR, Public, Wearer, client
from .quadratic import loader, trainer

BOTH, ONE = ("acc", "gyro"), ("acc",)


def wearers(**kwargs):
    """The first and the last have both sensors, the second has one; of different sizes."""
    owned = (BOTH, ONE, BOTH)
    return [Wearer(i, n, m, **kwargs) for i, (n, m) in enumerate(zip((8, 12, 20), owned, strict=True))]


def run(clients, algorithm=None, rounds=1, callbacks=(), local=None, other_models=None, **kwargs):
    first = kwargs.pop("first", None) or client(BOTH, seed=1)
    federation = Federation(
        first,
        algorithm or FedAvg(),
        local or LocalTraining(epochs=1),
        other_models=[client(ONE, seed=2)] if other_models is None else other_models,
        client_models=[0, 1, 0],
        **kwargs,
    )
    trainer(1, callbacks=list(callbacks)).fit(federation, loader(clients, per_epoch=rounds))
    return federation


def descend(net, x, y):
    """A step of plain gradient descent on the loss, written out for the mean of embeddings."""
    embeddings, there, heads = [], [], []
    for m in net.modalities:
        rows = x["present"][m]
        z = torch.zeros(len(y), 8)
        if rows.any():
            features = net.encoders[m](x[m][rows]).mean(2)
            own = F.linear(features, net.projections[m].weight, net.projections[m].bias)
            z = z.index_put((rows.nonzero()[:, 0],), own)
            logits = F.linear(own, net.heads[m].weight, net.heads[m].bias)
            heads.append(F.cross_entropy(logits, y[rows]))
        embeddings.append(z)
        there.append(rows.float())
    fused = sum(embeddings) / sum(there)[:, None]
    loss = F.cross_entropy(net.head(fused), y) + sum(heads) / len(heads)
    named = dict(net.named_parameters())
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    with torch.no_grad():
        for p, g in zip(named.values(), gradients, strict=True):
            if g is not None:
                p.sub_(LR * g)


def by_hand(rounds, clients):
    """FedAvg of all layers over the clients that have them, weighted by samples."""
    server = dict(copy.deepcopy(client(BOTH, seed=1)).network.named_parameters())
    server = {name: p.detach().clone() for name, p in server.items()}
    for r in range(rounds):
        told = []
        for one in clients:
            net = copy.deepcopy(client(BOTH if one.id != 1 else ONE).network)
            with torch.no_grad():
                for name, p in net.named_parameters():
                    p.copy_(server[name])
            for x, y in one.batches_of_round(r):
                descend(net, x, y)
            told.append((one.num_samples, {n: p.detach() for n, p in net.named_parameters()}))
        for name in server:
            mine = [(n, weights[name]) for n, weights in told if name in weights]
            server[name] = sum(n * w for n, w in mine) / sum(n for n, _ in mine)
            assert len(mine) == (2 if "gyro" in name else 3)
    return server


@pytest.mark.parametrize("rounds", [1, 3])
def test_each_layer_is_averaged_over_the_clients_that_have_it(rounds):
    federation = run(wearers(), rounds=rounds, shared_layers="*")
    expected = by_hand(rounds, wearers())
    found = dict(federation.model.network.named_parameters())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].detach(), value, rtol=1e-4, atol=1e-6, msg=name)
    other = dict(federation.other_models[0].network.named_parameters())
    assert not any("gyro" in name for name in other)
    for name, p in other.items():
        assert torch.equal(p, found[name]), name


@pytest.mark.parametrize("fusion", ["late", "mean", "concat", "gated", "attention"])
def test_every_fusion_can_be_averaged_over_clients_of_different_modalities(fusion):
    federation = run(
        wearers(),
        rounds=2,
        shared_layers="*",
        first=client(BOTH, seed=1, fusion=fusion),
        other_models=[client(ONE, seed=2, fusion=fusion)],
    )
    first = federation.model.state_dict()
    assert all(
        torch.equal(value, first[name]) for name, value in federation.other_models[0].state_dict().items()
    )


def test_an_encoder_without_an_owner_in_the_round_stays():
    start = copy.deepcopy(client(BOTH, seed=1).state_dict())
    alone = wearers()[1:2]
    federation = Federation(
        client(BOTH, seed=1), FedAvg(), other_models=[client(ONE)], client_models=[0, 1, 0], shared_layers="*"
    )
    trainer(1).fit(federation, loader(alone))
    for name, value in federation.model.state_dict().items():
        if value.is_floating_point() and name.startswith("network"):
            assert torch.equal(value, start[name]) == ("gyro" in name), name


def bits(federation):
    found = dict(federation.state_dict())
    for i, groups in federation.engine.host.store.state_dict().items():
        found |= {f"{i}/{g}/{n}": t for g, group in groups.items() for n, t in group.items()}
    return found


def same(one, two):
    a, b = bits(one), bits(two)
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_modality_dropout_follows_from_the_federations_seed():
    def go(seed, start=0):
        first, other = client(BOTH, seed=1, modality_dropout=0.5), client(ONE, seed=2)
        torch.manual_seed(start)  # what the user drew before does not count
        return run(wearers(), rounds=2, shared_layers="*", first=first, other_models=[other], seed=seed)

    assert same(go(3), go(3, start=9))
    assert not same(go(3), go(4))


def test_prototypes_are_averaged_over_owners_and_classes():
    """Client 0 has seen classes 0 and 1, client 2 classes 1 and 2: nobody's zeros are in a mean."""
    clients = wearers(missing=0.0)
    for one, lacks in ((clients[0], 2), (clients[2], 0)):
        one.y = torch.where(one.y == lacks, 1, one.y)
    federation = run(
        clients,
        first=client(BOTH, seed=1, completion="prototype"),
        other_models=[client(ONE, seed=2, completion="prototype")],
        shared_layers="*",
        local=LocalTraining(steps=1),
    )
    net = client(BOTH, seed=1).network.eval()
    told = []
    for one in clients:
        x, y = one.batches_of_round(0)[0]
        with torch.no_grad():
            z = F.linear(
                net.encoders["acc"](x["acc"]).mean(2),
                net.projections["acc"].weight,
                net.projections["acc"].bias,
            )
        told.append((one.num_samples, z, y))
    prototypes = federation.model.network.prototypes["acc"]
    for k in range(3):
        mine = [(n, z[y == k].mean(0)) for n, z, y in told if (y == k).any()]
        assert prototypes.known[k] == bool(mine)
        if mine:
            expected = sum(n * z for n, z in mine) / sum(n for n, _ in mine)
            torch.testing.assert_close(prototypes.means[k], expected, rtol=1e-4, atol=1e-5)


def test_clients_are_measured_by_their_own_modalities():
    federation = run(wearers(), rounds=2, shared_layers="*")
    records = federation.evaluate(wearers(), "test")
    keys = {"test/loss", "test/acc", "test/f1", "test/acc_acc"}
    assert [set(r.metrics) for r in records] == [keys | {"test/acc_gyro"}, keys, keys | {"test/acc_gyro"}]


def test_a_teacher_with_all_modalities_teaches_every_client():
    """Each client's batches hold what it owns; a teacher of more modalities makes do with that."""
    teacher = client(("acc", "gyro", "context"), seed=5)
    layers = {"student_layer": "network.embedding", "teacher_layer": "network.embedding"}
    clients = wearers(missing=0.0)
    federation = run(
        clients,
        rounds=2,
        shared_layers="*",
        callbacks=[Distillation(Teacher(teacher), [KD(), FitNets(weight=0.1, **layers)], alpha=0.5)],
    )
    assert all("distillation/kd" in r.metrics for r in federation.records)
    assert not same(federation, run(clients, rounds=2, shared_layers="*"))


def exchanging(algorithm, rounds=3, **kwargs):
    """A client with both sensors, and clients with one each; public samples have both."""
    clients = [Wearer(0, 8, BOTH), Wearer(1, 12, ("acc",)), Wearer(2, 20, ("gyro",))]
    for one in clients:
        one.public = Public()
    modules = [client(m, seed=i, **kwargs) for i, m in enumerate((BOTH, ("acc",), ("gyro",)))]
    federation = Federation(modules[0], algorithm, LocalTraining(epochs=1), other_models=modules[1:])
    trainer(1).fit(federation, loader(clients, per_epoch=rounds))
    return federation, clients


@pytest.mark.parametrize(
    "make",
    [
        lambda: FedMD(samples=6, batch_size=3),
        lambda: FedMD(samples=6, batch_size=3, layer="network.head", of="probabilities"),
        lambda: FedProto("network.embedding", 3),
        lambda: FD(),
        lambda: MHD(Ring(), batch_size=3),
    ],
    ids=["fedmd", "fedmd_head", "fedproto", "fd", "mhd"],
)
def test_clients_of_other_modalities_exchange_what_they_know(make):
    """Twice the same bits, something learned from the others, and no weight that travels."""
    (one, clients), (two, _) = exchanging(make(), auxiliary=1), exchanging(make(), auxiliary=1)
    assert same(one, two)
    context, _ = exchanging(FedProto("network.embedding", 3, lam=0.0), auxiliary=1)
    for i, module in enumerate((BOTH, ("acc",), ("gyro",))):
        names = one.engine.host.store.get(i)["personal"]
        assert {n.split(".")[2] for n in names if n.startswith("network.encoders")} == set(module)
        theirs = context.engine.host.store.get(i)["personal"]
        assert not torch.equal(names["network.head.weight"], theirs["network.head.weight"])
    shown = {c.id: m for c, m in one.models(clients)}
    assert len(shown) == 3


def test_public_samples_that_a_client_cannot_see_are_refused():
    clients = [Wearer(0, 8, BOTH), Wearer(1, 12, ("acc",)), Wearer(2, 20, ("gyro",))]
    public = Public()
    public.x["present"]["gyro"][3] = False
    for one in clients:
        one.public = public
    modules = [client(m) for m in (BOTH, ("acc",), ("gyro",))]
    federation = Federation(modules[0], FedMD(warmup=0), other_models=modules[1:], min_clients=3)
    with pytest.raises(
        TooFewClientsError, match=r"1 of 10 samples, .* have none of the modalities gyro: leave"
    ):
        trainer(1).fit(federation, loader(clients))


def test_different_embeddings_are_refused_before_anybody_trains():
    clients = [Wearer(0, 8, BOTH), Wearer(1, 12, ("acc",)), Wearer(2, 20, ("gyro",))]
    modules = [client(BOTH), client(("acc",), embedding=5), client(("gyro",))]
    federation = Federation(modules[0], FedProto("network.embedding", 3), other_models=modules[1:])
    with pytest.raises(
        ValueError,
        match=r"different embedding sizes, 8 at model, other_models\[1\] \(client .*\) and 5 at other_models\[0\]",
    ):
        trainer(1).fit(federation, loader(clients))


def test_a_first_architecture_that_nobody_has_is_no_result():
    federation = Federation(client(BOTH), FedAvg(), other_models=[client(ONE)], client_models=[1, 1, 1])
    assert not federation.trains_server_model
    assert Federation(
        client(BOTH), FedAvg(), other_models=[client(ONE)], client_models=[1, 1, 1], shared_layers="*"
    ).trains_server_model
    assert Federation(client(BOTH), FedAvg(), other_models=[client(ONE)]).trains_server_model
    with pytest.warns(
        UserWarning,
        match=r"no client has the first architecture \(client_models=\[1, 1, 1\]\).*: val/... is of",
    ):
        federation._own_up("val")
