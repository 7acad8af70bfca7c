"""Fed-ET: consensus and diversity in plain loops, rounds by hand, what travels, what is refused."""

import copy
import math

import pytest
import torch
from torch import nn

from lkd.federated import FedAvg, FedET
from lkd.federated.knowledge.fedet import consensus_and_diversity, ensemble_transfer_loss, variance_weighted
from lkd.modules import Classifier

from ..test_rounds import samples
from .public import NUMBER, federate, model, train_privately, with_public
from .two_models import assert_same_bits, sgd


def logits(clients=4, n=6, c=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(clients, n, c, generator=g, dtype=torch.float64)


def variance(row):
    mean = sum(row) / len(row)
    return sum((v - mean) ** 2 for v in row) / (len(row) - 1)


def weighted(rows):
    total = sum(variance(row) for row in rows)
    return [sum(variance(row) / total * row[c] for row in rows) for c in range(len(rows[0]))]


def by_loops(z):
    """Labels and the others' probabilities, or None, sample by sample."""
    labels, others = [], []
    for n in range(z.shape[1]):
        rows = z[:, n].tolist()
        joint = weighted(rows)
        label = max(range(len(joint)), key=lambda c: joint[c])
        apart = [row for row in rows if max(range(len(row)), key=lambda c: row[c]) != label]
        labels.append(label)
        exps = [math.exp(v) for v in weighted(apart)] if apart else None
        others.append([e / sum(exps) for e in exps] if apart else None)
    return labels, others


def test_consensus_and_diversity():
    z = logits()
    z[:, 0] = z[0, 0]  # all agree about one sample
    labels, others = consensus_and_diversity(z)
    expected, apart = by_loops(z)
    assert labels.argmax(1).tolist() == expected and float(labels.sum()) == 6
    assert apart[0] is None and sum(row is not None for row in apart) >= 3
    for found, row in zip(others, apart, strict=True):
        wanted = torch.zeros(3) if row is None else torch.tensor(row)
        torch.testing.assert_close(found, wanted.double(), rtol=1e-6, atol=1e-7)


def test_the_sure_outweigh_the_many():
    """Two of three say class 1, weakly; a plain mean of probabilities, or a vote, would say 1."""
    z = torch.tensor([[[6.0, -3.0, -3.0]], [[0.0, 2.0, 0.0]], [[0.0, 2.0, 0.0]]])
    labels, others = consensus_and_diversity(z)
    assert labels.tolist() == [[1.0, 0.0, 0.0]] and int(others.argmax()) == 1
    assert int(z.softmax(-1).mean(0).argmax()) == 1 and int(z.argmax(-1).mode(0).values) == 1


def test_nobody_who_is_sure_of_anything_gives_numbers_all_the_same():
    z = torch.zeros(3, 2, 4)
    assert variance_weighted(z).isfinite().all()
    labels, others = consensus_and_diversity(z)
    assert labels.isfinite().all() and others.isfinite().all()


def test_the_loss_in_plain_loops():
    z, own = logits(), logits(1, seed=1)[0]
    labels, others = consensus_and_diversity(z)
    expected, apart = by_loops(z)
    total = 0.0
    for row, label, other in zip(own.tolist(), expected, apart, strict=True):
        exps = [math.exp(v) for v in row]
        p = [e / sum(exps) for e in exps]
        total -= math.log(p[label])
        if other is not None:
            total += 0.3 * sum(q * math.log(q / pc) for pc, q in zip(p, other, strict=True))
    assert float(ensemble_transfer_loss(own, labels, others, 0.3)) == pytest.approx(total / 6, rel=1e-9)


def test_gradients():
    own = logits(1, seed=1)[0].requires_grad_()
    labels, others = (t.requires_grad_() for t in consensus_and_diversity(logits()))
    fixed = labels.detach(), others.detach()
    assert torch.autograd.gradcheck(lambda z: ensemble_transfer_loss(z, *fixed, 0.3), own)
    ensemble_transfer_loss(own, labels.detach(), others.detach(), 0.3).backward()
    there = (others.detach().sum(1, keepdim=True) > 0).double()
    expected = (own.softmax(1) - fixed[0] + 0.3 * (there * own.softmax(1) - fixed[1])) / 6
    torch.testing.assert_close(own.grad, expected.detach())


def body(seed, width):
    """A body of any width and a representation that all have in common, `network.4`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 4), nn.Tanh(), nn.Linear(4, 2)]
    return nn.Sequential(*layers)


def three(**kwargs):
    modules = [Classifier(body(seed, width), 2, optimizer=sgd) for seed, width in ((0, 9), (1, 3), (2, 5))]
    given = {
        "other_models": modules[1:],
        "client_models": [1, 2, 1],
        "shared_layers": ["network.4"],
        **kwargs,
    }
    return {"module": modules[0], **given}


HEAD = ("4.weight", "4.bias")


def by_hand(rounds, lam, steps, lr, momentum, clients):
    large, small = body(0, 9), {1: body(1, 3), 2: body(2, 5)}
    x, kinds = clients[0].public.x, [1, 2, 1]
    for r in range(rounds):
        trained = []
        for kind, client in zip(kinds, clients, strict=True):
            network = copy.deepcopy(small[kind])
            for name in HEAD:
                network.get_parameter(name).data.copy_(large.get_parameter(name))
            train_privately(network, client, r)
            trained.append(network)

        def mean(name, members, trained=trained):
            total = sum(clients[k].num_samples for k in members)
            return sum(clients[k].num_samples / total * trained[k].get_parameter(name).data for k in members)

        for kind, members in ((1, [0, 2]), (2, [1])):
            for name, p in small[kind].named_parameters():
                p.data.copy_(mean(name, members))
        for name in HEAD:
            large.get_parameter(name).data.copy_(mean(name, [0, 1, 2]))
        with torch.no_grad():
            labels, others = by_loops(torch.stack([m(x).double() for m in trained]))
        velocity = [torch.zeros_like(p) for p in large.parameters()]
        for _ in range(steps):
            log_p = large(x).log_softmax(1)
            loss = -log_p[torch.arange(len(x)), labels].mean()
            for i, row in enumerate(others):
                if row is not None:
                    q = torch.tensor(row)
                    loss = loss + lam * (q * (q.log() - log_p[i])).sum() / len(x)
            gradients = torch.autograd.grad(loss, list(large.parameters()))
            velocity = [momentum * v + g for v, g in zip(velocity, gradients, strict=True)]
            with torch.no_grad():
                for p, v in zip(large.parameters(), velocity, strict=True):
                    p.sub_(lr * v)
    return large, small


def test_rounds_by_hand():
    """Every step sees all public samples once, so that their order counts for nothing."""
    federation = federate(FedET(0.5, steps=4, batch_size=10, lr=0.1), rounds=3, **three())
    large, small = by_hand(3, 0.5, 4, 0.1, 0.9, with_public())
    for name, value in large.named_parameters():
        torch.testing.assert_close(federation.model.network.get_parameter(name), value)
    for kind, expected in small.items():
        found = federation.other_models[kind - 1].network
        for name, value in expected.named_parameters():
            wanted = large.get_parameter(name) if name in HEAD else value
            torch.testing.assert_close(found.get_parameter(name), wanted)


def test_without_steps_it_is_fedavg_of_each_small_model():
    one, two = (federate(algorithm, rounds=2, **three()) for algorithm in (FedET(steps=0), FedAvg()))
    assert_same_bits(one, two)


def test_without_common_layers_the_small_models_learn_nothing_from_the_large_one():
    one, two = (federate(a, rounds=2, **three(shared_layers=None)) for a in (FedET(lr=0.1), FedAvg()))
    for i in (0, 1):
        for a, b in zip(one.other_models[i].parameters(), two.other_models[i].parameters(), strict=True):
            torch.testing.assert_close(a, b)
    moved = [
        (a - b).abs().max() for a, b in zip(one.model.parameters(), body(0, 9).parameters(), strict=True)
    ]
    assert min(float(m) for m in moved) > 0


def test_a_lonely_client_teaches_its_own_labels():
    """One client: nobody thinks otherwise, so that lam counts for nothing."""
    clients = with_public([type(samples()[0])(0, 8, population=1)])
    one, two = (
        federate(FedET(lam), rounds=2, clients=clients, **three(client_models=[1])) for lam in (0.0, 5.0)
    )
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_small_models_travel_and_nothing_of_the_large_one():
    federation = federate(FedET(steps=2), rounds=2, **three())
    sizes = [sum(p.nbytes for p in body(0, width).parameters()) for width in (3, 5, 3)]
    assert federation.bytes_down == 2 * sum(size + 2 * NUMBER for size in sizes)
    assert federation.bytes_up == 2 * sum(size + NUMBER for size in sizes)


def test_same_seed_same_bits_in_any_order():
    one, two = (federate(FedET(steps=5, batch_size=4), **three()) for _ in range(2))
    assert_same_bits(one, two)
    backwards = federate(FedET(steps=5, batch_size=4), clients=with_public(samples()[::-1]), **three())
    for (name, a), b in zip(one.state_dict().items(), backwards.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FedET(lam=-1.0), "lam=-1.0 must be 0 or more"),
        (lambda: FedET(steps=-1), "steps=-1 must be 0 or more"),
        (lambda: FedET(momentum=1.0), r"momentum=1.0 must be in \[0, 1\)"),
        (
            lambda: federate(FedET(), **three(client_models=[1, 0, 1])),
            r"client_models gives client 1 the large model.*client_models=\[1, 1, 1\]",
        ),
        (
            lambda: federate(FedET(), **three(personal_layers=["network.0"])),
            "personal_layers: network.0.weight stays with each client",
        ),
        (
            lambda: federate(
                FedET(), **three(other_models=[model(1, classes=3), model(2, classes=3)], shared_layers=None)
            ),
            "must have the same classes",
        ),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_without_public_data_nobody_trains():
    clients = samples()
    for client in clients:
        client.public = None
    with pytest.raises(ValueError, match="there are none"):
        federate(FedET(), clients=clients, **three())
