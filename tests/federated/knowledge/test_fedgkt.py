"""FedGKT: equations, rounds by hand, bytes, clients that come late, exactness, what is refused."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lkd.federated import Federation, FedGKT, Local, LocalTraining
from lkd.federated.knowledge.fedgkt import SERVER, gkt_server_loss
from lkd.federated.protocol.seeds import derive
from lkd.modules import Classifier

from ..quadratic import loader, trainer
from .two_models import assert_same_bits, batches, federate, kept, net, placed, sgd

T, ALPHA = 2.0, 0.7


def head(seed=3, width=5):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(width, 12), nn.ReLU(), nn.Linear(12, 2))


def small(seed=1, width=5):
    return Classifier(net(seed, width), 2, optimizer=sgd)


def algorithm(alpha=ALPHA, epochs=2, width=5, **kwargs):
    server = Classifier(head(width=width), 2, optimizer=sgd)
    return FedGKT(server, "network.1", alpha=alpha, temperature=T, epochs=epochs, batch_size=16, **kwargs)


def test_the_servers_loss_is_the_papers():
    g = torch.Generator().manual_seed(0)
    z, c = (3 * torch.randn(4, 3, generator=g, dtype=torch.float64) for _ in range(2))
    y, total = [0, 2, 1, 1], 0.0
    for i, label in enumerate(y):
        es = [math.exp(v) for v in z[i].tolist()]
        total -= ALPHA * math.log(es[label] / sum(es))
        p, q = ([math.exp(v / T) for v in row[i].tolist()] for row in (c, z))
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        total += T**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    found = gkt_server_loss(z, c, torch.tensor(y), ALPHA, T)
    assert float(found) == pytest.approx(total / 4, rel=1e-12)
    z.requires_grad_()
    c.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: gkt_server_loss(s, c.detach(), torch.tensor(y), ALPHA, T), (z,))
    gkt_server_loss(z, c, torch.tensor(y)).backward()
    assert c.grad is None


def kl(teacher, student):
    p, q = (teacher / T).softmax(1), (student / T).log_softmax(1)
    return T * T * (p * (p.log() - q)).sum() / len(teacher)


def by_hand(models, server, clients, rounds, epochs=2):
    answers = [None] * len(clients)
    for r in range(rounds):
        told = []
        for k, (model, client) in enumerate(zip(models, clients, strict=True)):
            optimizer = sgd(model.parameters())
            for x, y in batches(client, r):
                loss = F.cross_entropy(model(x), y)
                if answers[k] is not None:  # each sample's own logits, found by its value
                    rows = [int((client.x == sample).all(1).nonzero()) for sample in x]
                    loss = loss + ALPHA * kl(answers[k][rows], model(x))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                h = model[1](model[0](client.x))
                told.append((h, model[2](h), client.y))
        h, z, y = (torch.cat(parts) for parts in zip(*told, strict=True))
        optimizer, order = sgd(server.parameters()), np.random.default_rng(derive(0, r, SERVER))
        for _ in range(epochs):
            for rows in torch.from_numpy(order.permutation(len(h))).split(16):
                s = server(h[rows])
                loss = ALPHA * F.cross_entropy(s, y[rows]) + kl(z[rows], s)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            answers = [server(features) for features, _, _ in told]
    return answers


def test_rounds_by_hand_with_two_architectures():
    clients = placed()
    made = algorithm()
    federation = federate(
        made, 3, module=small(1), other_models=[Classifier(deep(), 2, optimizer=sgd)], clients=clients
    )
    models, server = [net(1), deep(), net(1)], head()
    answers = by_hand(models, server, clients, 3)
    for name, value in server.named_parameters():
        torch.testing.assert_close(made.state["server"][f"network.{name}"], value.detach())
    for i, model in enumerate(models):
        torch.testing.assert_close(made.state["logits"][str(i)], answers[i])
        for name, value in model.named_parameters():
            torch.testing.assert_close(kept(federation, i, "network")[name], value.detach())
    module = small()
    module.network.load_state_dict(kept(federation, 0, "network"))
    torch.testing.assert_close(made.predict(module, clients[0].x), answers[0])


def deep():
    """Another extractor whose features have the same shape."""
    with torch.random.fork_rng():
        torch.manual_seed(8)
        extractor = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 5))
        return nn.Sequential(extractor, nn.Tanh(), nn.Linear(5, 2))


def test_features_logits_and_labels_go_up_and_logits_down():
    federation = federate(algorithm(), 2, module=small(), clients=placed())
    assert federation.bytes_up == 2 * (40 * (4 * 5 + 4 * 2 + 8) + 3 * 8)  # steps
    assert federation.bytes_down == 40 * 4 * 2 + 2 * 3 * 2 * 8  # nothing in the first round; round and steps
    assert federation.x == {}


def test_without_weight_clients_train_alone():
    """Bit for bit, while the server learns by distillation only."""
    federation = federate(algorithm(alpha=0.0), 2, module=small(), clients=placed())
    context = federate(Local(), 2, module=small(), clients=placed())
    for i in range(3):
        alone = kept(context, i, "network")
        assert all(torch.equal(t, alone[n]) for n, t in kept(federation, i, "network").items())


def test_a_client_that_comes_back_gets_its_last_answer():
    class Watched(FedGKT):
        def begin(self, context):
            super().begin(context)
            got.setdefault(context.client.id, []).append((context.round, context.scratch["targets"]))

    got = {}
    made = Watched(Classifier(head(), 2, optimizer=sgd), "network.1")
    federation = Federation(small(), made, LocalTraining(steps=2))
    trainer(6).fit(federation, loader(placed((8, 12, 8, 12)), size=2, seed=1))
    assert sorted(len(rounds) for rounds in got.values())[-1] > 1
    for client, rounds in got.items():
        assert rounds[0][1] is None
        assert all(len(targets) == (8, 12, 8, 12)[client] for _, targets in rounds[1:])


def test_a_second_fit_begins_with_the_servers_first_weights():
    made = algorithm()
    federation = Federation(small(), made, LocalTraining(epochs=1))
    found = []
    for _ in range(2):
        trainer(1).fit(federation, loader(placed()[:1]))
        found.append(made.state["server"]["network.0.weight"].clone())
        federation.engine.host.store._states.clear()
    assert not torch.equal(found[0], head()[0].weight)
    assert torch.allclose(found[0], found[1], atol=0.1)


def test_same_seed_same_bits_in_any_order():
    one, two = (federate(algorithm(), 2, module=small(), clients=placed()) for _ in range(2))
    backwards = federate(algorithm(), 2, module=small(), clients=placed()[::-1])
    for other in (two, backwards):
        first, second = one.algorithm.state, other.algorithm.state
        for group in first:
            assert all(torch.equal(t, second[group][n]) for n, t in first[group].items())
    assert_same_bits(one, two)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: FedGKT(head(), "network.1"), TypeError, "must be a LightningModule"),
        (lambda: algorithm(alpha=-1.0), ValueError, "alpha=-1.0 must be 0 or more"),
        (lambda: algorithm(epochs=0), ValueError, "epochs=0 must be 1 or more"),
        (
            lambda: federate(FedGKT(small(), "network.7"), module=small(), clients=placed()),
            ValueError,
            "features='network.7' is not a layer of Classifier",
        ),
        (
            lambda: federate(algorithm(), module=small(), other_models=[small(2, 7)], clients=placed()),
            ValueError,
            r"features='network.1' gives \(5,\) and \(7,\) at different clients",
        ),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_server_learns_what_its_clients_know():
    server = Classifier(head(), 2, optimizer=lambda p: torch.optim.SGD(p, lr=0.05))
    made, clients = FedGKT(server, "network.1", epochs=5, batch_size=8), placed((8, 12))
    federation = federate(made, 10, module=small(), clients=clients, local=LocalTraining(epochs=5))
    for client in clients:
        module = small()
        module.network.load_state_dict(kept(federation, client.id, "network"))
        right = made.predict(module, client.x).argmax(1) == client.y
        assert float(right.float().mean()) > 0.85
