"""ModalPrototypes: rounds by hand, degenerate cases, what travels, what is refused."""

import pytest
import torch
from torch import nn

from lkd.federated import Federation, FedProto, Local, LocalTraining, ModalPrototypes
from lkd.federated.knowledge.common.prototypes import joined_means, prototype_distance
from lkd.federated.knowledge.modal_prototypes import mean_of_others
from lkd.federated.server.round import TooFewClientsError

from ...modules.modalities import CLASSES, client
from ..quadratic import loader, trainer
from .public import NUMBER, model, with_public
from .public import federate as federate_vectors
from .two_models import assert_same_bits
from .wearers import (
    OWNED,
    SIZE,
    assert_local,
    assert_own,
    descend,
    embed,
    federate,
    modules,
    own,
    task_loss,
    wearers,
)

PAIR = CLASSES * (SIZE + 1) * 4
"""Bytes of an embedding and a count of every class."""
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def some():
    """Class 2 is seen by the gyro alone, so that some prototypes have no counterpart."""
    clients = wearers()
    for one in clients[:2]:
        one.y = one.y % 2
    return clients


def by_hand(rounds, intra, inter, clients):
    """Per sample, in plain loops, from the formula in the docstring."""
    nets, prototypes = [m.network for m in modules()], {}
    for r in range(rounds):
        told = {}
        for net, one in zip(nets, clients, strict=True):
            for x, y in one.batches_of_round(r):
                z, rows = embed(net, x)
                loss, each = task_loss(net, z, rows, y), []
                for m in z:
                    total = torch.zeros(())
                    for place, row in enumerate(rows[m].tolist()):
                        c = int(y[row])
                        others = [p for (other, k), p in prototypes.items() if other != m and k == c]
                        if (m, c) in prototypes:
                            total = total + intra * sum((z[m][place] - prototypes[m, c]) ** 2) / SIZE
                        if others:
                            q = sum(others) / len(others)
                            total = total + inter * sum((z[m][place] - q) ** 2) / SIZE
                    each.append(total / len(rows[m]))
                descend(net, loss + sum(each) / len(each))
            with torch.no_grad():
                z, rows = embed(net, one.x)
            for m in z:
                for place, row in enumerate(rows[m].tolist()):
                    told.setdefault((m, int(one.y[row])), []).append(z[m][place])
        prototypes |= {pair: sum(rows) / len(rows) for pair, rows in told.items()}
    return nets, prototypes


@pytest.mark.parametrize(("intra", "inter"), [(1.0, 0.5), (0.0, 2.0), (2.0, 0.0)])
def test_rounds_by_hand(intra, inter):
    federation = federate(ModalPrototypes(CLASSES, intra, inter), clients=some())
    nets, prototypes = by_hand(3, intra, inter, some())
    assert_own(federation, nets, **TOLERANCE)
    found = federation.algorithm.state
    assert {(m, c) for m in found["count"] for c in range(CLASSES) if found["count"][m][c]} == set(prototypes)
    assert ("acc", 2) not in prototypes and ("gyro", 2) in prototypes
    for (m, c), mean in prototypes.items():
        torch.testing.assert_close(found["mean"][m][c], mean, **TOLERANCE)
    for m, counts in found["count"].items():
        there = [one.y[one.x["present"][m]] for one in some() if m in one.x]
        assert counts.tolist() == torch.cat(there).bincount(minlength=CLASSES).tolist()


@pytest.mark.parametrize("count", [1, 3])
def test_without_weights_it_is_local_training_bit_for_bit(count):
    one = federate(ModalPrototypes(CLASSES, 0.0, 0.0), clients=wearers()[:count])
    assert_local(one, federate(Local(), clients=wearers()[:count]))


def test_what_the_weights_change():
    """A pair that is not there has no term: one modality alone has no other, and a first round no prototypes."""
    lone = [wearers(owned=(("acc",),) * 3), modules((("acc",),))]
    one = federate(ModalPrototypes(CLASSES, 1.0, 0.0), clients=lone[0], made=lone[1])
    lone = [wearers(owned=(("acc",),) * 3), modules((("acc",),))]
    assert_same_bits(one, federate(ModalPrototypes(CLASSES, 1.0, 5.0), clients=lone[0], made=lone[1]))
    assert_local(federate(ModalPrototypes(CLASSES), rounds=1), federate(Local(), rounds=1))
    with pytest.raises(AssertionError):
        assert_local(federate(ModalPrototypes(CLASSES, 0.0, 1.0)), federate(Local()))


def test_of_one_modality_it_is_fedproto_bit_for_bit():
    owned = (("acc",),) * 3
    made = [
        federate(algorithm, clients=wearers(0.0, owned=owned), made=modules(owned[:1]))
        for algorithm in (ModalPrototypes(CLASSES, 0.7), FedProto("network.projections.acc", CLASSES, 0.7))
    ]
    assert_local(*made)
    one, two = (f.algorithm.state for f in made)
    assert torch.equal(one["mean"]["acc"], two["prototypes"]["mean"])
    assert torch.equal(one["count"]["acc"], two["prototypes"]["count"])


def test_a_client_without_the_class_learns_it_from_the_other_modality():
    """With large weights embeddings of acc come near to the gyro's prototypes, which no other term does."""
    made = [
        federate(ModalPrototypes(CLASSES, 0.0, inter), rounds=12, clients=wearers(0.0))
        for inter in (0.0, 5.0)
    ]
    away = [
        (f.algorithm.state["mean"]["acc"] - f.algorithm.state["mean"]["gyro"]).square().mean() for f in made
    ]
    assert away[1] < 0.1 * away[0]


def test_a_pair_that_nobody_tells_of_keeps_its_prototype():
    """The clients with a gyro are in the first round alone."""
    algorithm = ModalPrototypes(CLASSES)
    federation = federate(algorithm, rounds=1)
    before = {m: t.clone() for m, t in algorithm.state["mean"].items()}
    algorithm.setup = lambda x: None
    trainer(1).fit(federation, loader(wearers()[1:2]))
    assert torch.equal(algorithm.state["mean"]["gyro"], before["gyro"])
    assert not torch.equal(algorithm.state["mean"]["acc"], before["acc"])
    old = {"mean": torch.tensor([[1.0], [2.0]]), "count": torch.tensor([3.0, 4.0])}
    new = joined_means(torch.tensor([[[7.0], [0.0]]]), torch.tensor([[2.0, 0.0]]), old=old)
    assert new["mean"].tolist() == [[7.0], [2.0]] and new["count"].tolist() == [2.0, 4.0]


def test_pairs_of_the_own_modalities_go_up_and_all_come_down():
    federation = federate(ModalPrototypes(CLASSES))
    # once, a client of each architecture is asked for its sizes, one a modality
    assert federation.bytes_up == 3 * (3 * NUMBER + (2 + 1 + 1) * PAIR) + (2 + 1 + 1) * NUMBER
    assert federation.bytes_down == 3 * 3 * 2 * NUMBER + 2 * 3 * 2 * PAIR + 3 * NUMBER
    federation = federate(ModalPrototypes(CLASSES, modalities=["acc"]))
    assert federation.bytes_up == 3 * (3 * NUMBER + (1 + 1 + 0) * PAIR) + (1 + 1 + 0) * NUMBER


def test_same_seed_same_bits_in_any_order():
    one = federate(ModalPrototypes(CLASSES))
    assert_same_bits(one, federate(ModalPrototypes(CLASSES)))
    assert_same_bits(one, federate(ModalPrototypes(CLASSES), clients=wearers()[::-1]))


def test_in_bf16_clients_become_nearly_the_same():
    one, two = (
        federate(ModalPrototypes(CLASSES), trainer_args={"precision": p}) for p in ("32-true", "bf16-mixed")
    )
    for i in range(3):
        a, b = own(one, i), own(two, i)
        assert all(a[n].dtype == b[n].dtype for n in a)
        assert all(torch.allclose(a[n].float(), b[n].float(), rtol=0.05, atol=0.02) for n in a)


def test_resumed_equals_uninterrupted(tmp_path):
    def go(epochs, path=None):
        made = modules(modality_dropout=0.3)
        federation = Federation(
            made[0], ModalPrototypes(CLASSES), LocalTraining(epochs=1), other_models=made[1:]
        )
        runner = trainer(epochs)
        runner.fit(federation, loader(wearers()), ckpt_path=path)
        runner.save_checkpoint(tmp_path / "last.ckpt")
        return federation

    whole = go(4)
    go(2)
    assert_same_bits(whole, go(4, tmp_path / "last.ckpt"))


def test_nothing_depends_on_what_stands_in_a_missing_modalitys_place():
    clients = wearers()
    for one in clients:
        for m in ("acc", "gyro"):
            if m in one.x:
                one.x[m][~one.x["present"][m]] = float("nan")
    assert_same_bits(federate(ModalPrototypes(CLASSES)), federate(ModalPrototypes(CLASSES), clients=clients))


def test_with_modality_dropout_the_samples_are_those_that_the_network_was_given():
    made = modules(modality_dropout=0.5)
    federation = federate(ModalPrototypes(CLASSES), clients=wearers(), made=made)
    counts = federation.algorithm.state["count"]["acc"]  # what is told is of all that there is
    there = [one.y[one.x["present"]["acc"]] for one in wearers()[:2]]
    assert counts.tolist() == torch.cat(there).bincount(minlength=CLASSES).tolist()
    assert all(record.metrics["train/prototype_loss"] > 0 for record in federation.records)


def test_means_of_others_in_plain_loops():
    g = torch.Generator().manual_seed(0)
    means = {m: torch.randn(4, 3, generator=g) for m in "abc"}
    counts = {m: torch.randint(0, 2, (4,), generator=g).float() for m in "abc"}
    found = mean_of_others(means, counts, "b")
    for c in range(4):
        known = [means[m][c] for m in "ac" if counts[m][c]]
        assert found["count"][c] == len(known)
        torch.testing.assert_close(found["mean"][c], sum(known) / len(known) if known else torch.zeros(3))
    assert mean_of_others({"b": means["b"]}, {"b": counts["b"]}, "b") == {}


def test_the_distance_teaches_no_prototype():
    g = torch.Generator().manual_seed(0)
    features = torch.randn(5, 3, generator=g, dtype=torch.float64, requires_grad=True)
    mean = torch.randn(2, 3, generator=g, dtype=torch.float64, requires_grad=True)
    labels, count = torch.tensor([0, 1, 0, 1, 1]), torch.tensor([1.0, 0.0])
    prototype_distance(features, labels, mean, count).backward()
    assert mean.grad is None
    assert torch.equal(features.grad[labels == 1], torch.zeros(3, 3))
    assert torch.autograd.gradcheck(lambda f: prototype_distance(f, labels, mean.detach(), count), features)
    own = mean.detach()[labels]
    assert prototype_distance(own, labels, mean, torch.ones(2)) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModalPrototypes(0), "classes=0 must be 1 or more"),
        (lambda: ModalPrototypes(3, intra=-1.0), "intra=-1.0 must be 0 or more"),
        (lambda: ModalPrototypes(3, inter=float("nan")), "inter=nan must be 0 or more"),
        (lambda: ModalPrototypes(3, layer="network.embedding"), "must name a layer for each modality, as 'network.proj"),
        (lambda: federate(ModalPrototypes(3, modalities=["pulse"])), "no client has 'pulse'; .* encoders for acc, gyro"),
        (lambda: federate(ModalPrototypes(2)), "classes=2: there are labels from 0 to 2; they must be 0 to 1"),
        (lambda: federate(ModalPrototypes(3, label_key="y")), "label_key='y': the batch has no such entry"),
        (
            lambda: federate(ModalPrototypes(3, layer="network.tails.{modality}")),
            "layer='network.tails.acc' is not a layer of MultimodalClient",
        ),
        (
            lambda: federate(ModalPrototypes(3), made=[*modules()[:2], client(("gyro",), embedding=5)]),
            r"layer='network.projections.{modality}' gives different embedding sizes, 8 at model, other_models\[0\] \(client 0, 1\) "
            r"and 5 at other_models\[1\] \(client 2\)",
        ),
        (
            lambda: federate_vectors(ModalPrototypes(2), module=model(), clients=with_public()),
            "Classifier does not say which modalities it has: use a MultimodalClient",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_layer_that_runs_on_some_samples_alone_is_refused():
    made = [client(m) for m in OWNED]
    for one in made:
        for m in one.network.modalities:
            one.network.encoders[m] = nn.Sequential(one.network.encoders[m], nn.AdaptiveAvgPool1d(1))
    algorithm = ModalPrototypes(3, layer="network.encoders.{modality}")
    with pytest.raises(TooFewClientsError, match=r"gives \d rows for \d samples: take one that gives a row"):
        federate(algorithm, made=made, min_clients=3)
