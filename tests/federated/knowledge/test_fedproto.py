"""FedProto: rounds by hand, degenerate cases, what travels, what is refused."""

import pytest
import torch
from torch import nn

from lkd.federated import FedProto, Local
from lkd.federated.knowledge.common.prototypes import class_means, nearest_prototype
from lkd.modules import Classifier

from ..quadratic import loader, trainer
from .public import NUMBER, assert_own, descend, federate
from .test_fd import Only
from .two_models import assert_same_bits, batches, sgd

LAYER = "network.1"


def clients():
    """Class 0 is everybody's, class 1 of two clients, class 2 of one; of different sizes."""
    return [Only(0, [0, 1], 8), Only(1, [0, 1], 12), Only(2, [0, 2], 20)]


def network(seed, deep=False, size=5):
    """Features of one size, behind one or two layers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        below = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, size)) if deep else nn.Linear(3, size)
        return nn.Sequential(below, nn.Tanh(), nn.Linear(size, 3))


def module(*args, **kwargs):
    return Classifier(network(*args, **kwargs), num_classes=3, optimizer=sgd)


def proto(algorithm, rounds=3, **kwargs):
    given = {"module": module(1), "other_models": [module(2, deep=True)], "clients": clients(), **kwargs}
    return federate(algorithm, rounds, **given)


def by_hand(rounds, lam, weights="samples"):
    """Per sample, in plain loops; the prototypes are those of the trained model in eval mode."""
    models, prototypes = [network(1), network(2, deep=True), network(1)], {}
    for r in range(rounds):
        told = []
        for net, client in zip(models, clients(), strict=True):
            for x, y in batches(client, r):
                features = net[:2](x)
                log_p, loss = net[2](features).log_softmax(1), 0.0
                for i, label in enumerate(y.tolist()):
                    loss = loss - log_p[i, label]
                    if label in prototypes:
                        loss = (
                            loss
                            + lam * sum((features[i, d] - prototypes[label][d]) ** 2 for d in range(5)) / 5
                        )
                descend(net, loss / len(y))
            with torch.no_grad():
                found = net[:2](client.x)
            told.append({c: found[client.y == c] for c in range(3) if (client.y == c).any()})
        for label in range(3):
            rows = [t[label] for t in told if label in t]
            total = sum(len(r) for r in rows)
            if weights == "samples":
                prototypes[label] = sum(r.sum(0) for r in rows) / total
            else:
                prototypes[label] = sum(r.mean(0) for r in rows) / len(rows)
    return models, prototypes


@pytest.mark.parametrize(("lam", "weights"), [(1.0, "samples"), (0.3, "uniform")])
def test_rounds_by_hand(lam, weights):
    federation = proto(FedProto(LAYER, 3, lam, weighting=weights))
    models, prototypes = by_hand(3, lam, weights)
    assert_own(federation, models, rtol=1e-4, atol=1e-5)
    found = federation.algorithm.state["prototypes"]
    for label, mean in prototypes.items():
        torch.testing.assert_close(found["mean"][label], mean, rtol=1e-4, atol=1e-5)
    assert found["count"].tolist() == [sum(int((c.y == k).sum()) for c in clients()) for k in range(3)]


def test_without_weight_it_is_local_training_bit_for_bit():
    one, two = proto(FedProto(LAYER, 3, lam=0.0)), proto(Local())
    for i in range(3):
        a, b = (f.engine.host.store.get(i)["personal"] for f in (one, two))
        assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_a_class_that_nobody_of_the_round_has_keeps_its_prototype():
    class ClientReply:
        client = 0

        def __init__(self, mean, count):
            self.knowledge = {"mean": torch.tensor(mean), "count": torch.tensor(count)}

    class Server:
        def __init__(self, told):
            self.told, self.cohort = told, {}

        def train(self, knowledge=None):
            self.sent = knowledge

        def gather(self, replies):
            return self.told

    algorithm = FedProto(LAYER, 3)
    first = [
        ClientReply([[1.0], [2.0], [0.0]], [1.0, 2.0, 0.0]),
        ClientReply([[4.0], [0.0], [0.0]], [3.0, 0.0, 0.0]),
    ]
    algorithm.round(Server(first))
    assert algorithm.state["prototypes"]["mean"].tolist() == [[3.25], [2.0], [0.0]]
    server = Server([ClientReply([[0.0], [0.0], [7.0]], [0.0, 0.0, 1.0])])
    algorithm.round(server)
    assert server.sent["count"].tolist() == [4.0, 2.0, 0.0]
    assert algorithm.state["prototypes"]["mean"].tolist() == [[3.25], [2.0], [7.0]]
    assert algorithm.state["prototypes"]["count"].tolist() == [4.0, 2.0, 1.0]


def test_a_feature_and_a_count_a_class_travel_each_way():
    federation = proto(FedProto(LAYER, 3))
    table = 3 * 5 * 4 + 3 * 4
    sizes = 2 * NUMBER  # told once by a client of each architecture, asked with the number of the round
    assert federation.bytes_up == 3 * 3 * (NUMBER + table) + sizes
    assert federation.bytes_down == 3 * 3 * 2 * NUMBER + 2 * 3 * table + sizes


def test_same_seed_same_bits_in_any_order():
    one = proto(FedProto(LAYER, 3))
    assert_same_bits(one, proto(FedProto(LAYER, 3)))
    assert_same_bits(one, proto(FedProto(LAYER, 3), clients=clients()[::-1]))


def test_a_fit_that_resumes_nothing_begins_anew():
    """The first round of a second fit sends no prototypes of the first."""
    federation = proto(FedProto(LAYER, 3), rounds=2)
    before = federation.bytes_down
    trainer(1).fit(federation, loader(clients()))
    assert federation.bytes_down - before == 3 * 2 * NUMBER + 2 * NUMBER  # and the question about sizes


def test_maps_are_flattened_and_the_nearest_prototype_is_the_papers_inference():
    features = torch.tensor([[0.0, 0.1], [5.0, 5.0], [1.0, 1.2]])
    found = class_means(features, torch.tensor([0, 2, 2]), 3)
    torch.testing.assert_close(found["mean"], torch.tensor([[0.0, 0.1], [0.0, 0.0], [3.0, 3.1]]))
    assert found["count"].tolist() == [1.0, 0.0, 2.0]
    # class 1 has no prototype, however near its zeros are
    assert nearest_prototype(features, found["mean"], found["count"]).tolist() == [0, 2, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FedProto(LAYER, 3, lam=-1.0), "lam=-1.0 must be 0 or more"),
        (lambda: FedProto(LAYER, 0), "classes=0 must be 1 or more"),
        (lambda: FedProto(LAYER, 3, weighting="sample"), "weighting='sample' must be 'samples' or 'uniform'"),
        (lambda: proto(FedProto("network.9", 3)), "layer='network.9' is not a layer of Classifier"),
        (lambda: proto(FedProto(LAYER, 3, label_key="y")), "label_key='y': the batch has no such entry"),
        (lambda: proto(FedProto(LAYER, 1)), "classes=1: there are labels from 0 to .; they must be 0 to 0"),
        (
            lambda: proto(FedProto(LAYER, 3), other_models=[module(2, size=6)]),
            r"layer='network.1' gives different embedding sizes, 5 at model \(client 0, 2\) and 6 at other_models\[0\] \(client 1\)",
        ),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()
