"""FedGen: losses, rounds by hand, bytes, exactness, what is refused."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lkd.federated import FedAvg, FedGen
from lkd.federated.knowledge.common.generation import diversity_loss, ensemble_loss, labels_like
from lkd.federated.knowledge.fedgen import SERVER, memory_of, remember
from lkd.federated.protocol.seeds import derive
from lkd.models import FeatureGenerator
from lkd.modules import Classifier

from ..test_rounds import samples
from .two_models import assert_same_bits, batches, federate, net, sgd


def maker(seed=4, features=5, classes=2):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FeatureGenerator(classes, features, noise=3, hidden=6)


def algorithm(head="network.2", **kwargs):
    return FedGen(
        maker(), head, **{"alpha": 0.7, "beta": 0.4, "decay": 0.9, "steps": 5, "batch_size": 8, **kwargs}
    )


def client(seed=1, width=5):
    return Classifier(net(seed, width), 2, optimizer=sgd)


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_ensembles_loss_is_the_papers_and_the_codes():
    logits, y = draws(3, 4, 2), [0, 1, 1, 0]
    weights = torch.tensor([[0.5, 0.0], [0.2, 0.7], [0.3, 0.3]])
    mean = each = 0.0
    for b, label in enumerate(y):
        rows = [logits[k, b].tolist() for k in range(3)]
        middle = [sum(row[c] for row in rows) / 3 for c in range(2)]
        mean -= math.log(math.exp(middle[label]) / sum(map(math.exp, middle))) / 4
        for k, row in enumerate(rows):
            each -= float(weights[k, label]) * math.log(math.exp(row[label]) / sum(map(math.exp, row))) / 4
    labels = torch.tensor(y)
    assert float(ensemble_loss(logits, labels, weights)) == pytest.approx(each, rel=1e-6)
    assert float(ensemble_loss(logits, labels, weights, "logits")) == pytest.approx(mean, rel=1e-12)
    for of in ("losses", "logits"):
        loss = lambda z, of=of: ensemble_loss(z, labels, weights.double(), of)  # noqa: E731
        assert torch.autograd.gradcheck(loss, (logits.clone().requires_grad_(),))


def test_one_head_is_the_cross_entropy():
    logits, labels = draws(1, 4, 2), torch.tensor([0, 1, 1, 0])
    for of in ("losses", "logits"):
        assert torch.equal(
            ensemble_loss(logits, labels, torch.ones(1, 2), of), F.cross_entropy(logits[0], labels)
        )


def test_diversity_by_loops():
    noise, features, total = draws(4, 3), draws(4, 5, seed=1), 0.0
    for i in range(4):
        for j in range(4):
            far = sum((a - b) ** 2 for a, b in zip(noise[i].tolist(), noise[j].tolist(), strict=True)) / 3
            apart = (
                sum(abs(a - b) for a, b in zip(features[i].tolist(), features[j].tolist(), strict=True)) / 5
            )
            total += far * apart / 16
    assert float(diversity_loss(noise, features)) == pytest.approx(math.exp(-total), rel=1e-12)
    assert torch.autograd.gradcheck(lambda z: diversity_loss(noise, z), (features.requires_grad_(),))
    assert float(diversity_loss(noise, torch.ones(4, 5))) == 1  # all the same: the worst


def test_labels_come_in_their_shares():
    shares = torch.tensor([0.0, 0.25, 0.75])
    found = torch.bincount(labels_like(shares, 4000, torch.Generator().manual_seed(0)), minlength=3) / 4000
    assert found[0] == 0 and abs(float(found[1]) - 0.25) < 0.03


def test_an_optimizer_goes_on_from_its_memory():
    one, two = (torch.ones(3, requires_grad=True) for _ in range(2))
    whole, first = torch.optim.Adam([one], 0.1), torch.optim.Adam([two], 0.1)
    for step in range(4):
        if step == 2:
            again = torch.optim.Adam([two], 0.1)
            remember(again, memory_of(first))
            first = again
        for parameter, optimizer in ((one, whole), (two, first)):
            parameter.grad = draws(3, seed=step).float()
            optimizer.step()
    assert torch.equal(one, two)


def generated(generator, labels, random):
    return generator(torch.randn(len(labels), 3, generator=random), labels).detach()


def by_hand(model, generator, clients, rounds, alpha=0.7, beta=0.4, decay=0.9, steps=5, of="losses"):
    shares, memory = None, None
    for r in range(rounds):
        trained, counts = [], []
        for c in clients:
            context, random = (
                copy.deepcopy(model),
                torch.Generator().manual_seed(derive(derive(0, r, c.id), SERVER)),
            )
            optimizer, seen = sgd(context.parameters()), [0, 0]
            generator.eval()
            for x, y in batches(c, r):
                for label in y.tolist():
                    seen[label] += 1
                loss = F.cross_entropy(context(x), y)
                if shares is not None:
                    other = torch.multinomial(shares.double(), len(y), replacement=True, generator=random)
                    z_other, z_own = generated(generator, other, random), generated(generator, y, random)
                    p = context[2](z_own).softmax(1).detach()
                    loss = loss + decay**r * alpha * F.cross_entropy(context[2](z_other), other)
                    loss = loss + decay**r * beta * (p * (p.log() - context(x).log_softmax(1))).sum() / len(y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            trained.append(context)
            counts.append(torch.tensor(seen, dtype=torch.float64))
        counts = torch.stack(counts)
        weights, shares = counts / counts.sum(0), (counts.sum(0) / counts.sum()).float()
        random = torch.Generator().manual_seed(derive(0, r, SERVER))
        optimizer = torch.optim.Adam(generator.parameters(), 3e-4 * decay**r, weight_decay=1e-2)
        if memory is not None:
            memory["param_groups"] = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict(memory)
        generator.train()
        for _ in range(steps):
            y = torch.multinomial(counts.sum(0) / counts.sum(), 8, replacement=True, generator=random)
            noise = torch.randn(8, 3, generator=random)
            z = generator(noise, y)
            if of == "losses":
                each = [F.cross_entropy(m[2](z), y, reduction="none") for m in trained]
                loss = sum((w[y] * e).mean() for w, e in zip(weights, each, strict=True))
            else:
                loss = F.cross_entropy(sum(m[2](z) for m in trained) / len(trained), y)
            distance = (noise[:, None] - noise).square().mean(2) * (z[:, None] - z).abs().mean(2)
            optimizer.zero_grad()
            (loss + (-distance.mean()).exp()).backward()
            optimizer.step()
        memory = optimizer.state_dict()
        total = sum(c.num_samples for c in clients)
        with torch.no_grad():
            for name, mean in model.named_parameters():
                parts = [
                    c.num_samples / total * m.get_parameter(name)
                    for c, m in zip(clients, trained, strict=True)
                ]
                mean.copy_(sum(parts))
    return shares


@pytest.mark.parametrize("of", ["losses", "logits"])
def test_rounds_by_hand(of):
    made = algorithm(of=of)
    federation = federate(made, 3, module=client())
    model, generator = net(1), maker()
    shares = by_hand(model, generator, samples(), 3, of=of)
    for ours, theirs in zip(federation.model.network.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    for name, value in generator.state_dict().items():
        torch.testing.assert_close(made.state["generator"][name], value)
    torch.testing.assert_close(made.state["labels"]["shares"], shares)


def test_without_weights_it_is_fedavg():
    """Bit for bit."""
    ours = federate(algorithm(alpha=0.0, beta=0.0), 3, module=client()).model.state_dict()
    average = federate(FedAvg(), 3, module=client()).model.state_dict()
    assert all(torch.equal(value, average[name]) for name, value in ours.items())


def test_what_travels():
    weights = sum(p.nbytes for p in net(1).parameters())
    generator = sum(t.nbytes for t in maker().state_dict().values())
    federation = federate(algorithm(), 3, module=client())
    assert federation.bytes_up == 3 * 3 * (weights + 2 * 4 + 8)  # counts, steps
    assert federation.bytes_down == 3 * 3 * (weights + 2 * 8) + 2 * 3 * (generator + 2 * 4)


def test_extractors_of_any_kind_may_stay_with_their_clients():
    federation = federate(
        algorithm("network.1"),
        2,
        module=Classifier(
            nn.Sequential(nn.Sequential(nn.Linear(3, 5), nn.Tanh()), nn.Linear(5, 2)), 2, optimizer=sgd
        ),
        other_models=[
            Classifier(
                nn.Sequential(nn.Sequential(nn.Linear(3, 5), nn.ReLU()), nn.Linear(5, 2)), 2, optimizer=sgd
            )
        ],
        personal_layers=["network.0"],
        shared_layers=["network.1"],
    )
    head = 4 * (5 * 2 + 2)
    assert federation.bytes_up == 2 * 3 * (head + 2 * 4 + 8)


def test_same_seed_same_bits_in_any_order():
    one, two = (federate(algorithm(), 2, module=client()) for _ in range(2))
    backwards = federate(algorithm(), 2, module=client(), clients=samples()[::-1])
    assert_same_bits(one, two)
    assert_same_bits(one, backwards)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: algorithm(alpha=-1.0), "alpha=-1.0 must be 0 or more"),
        (lambda: algorithm(steps=0), "steps=0 must be 1 or more"),
        (lambda: algorithm(decay=0.0), r"decay=0.0 must be in \(0, 1\]"),
        (lambda: algorithm(of="votes"), "of='votes' must be"),
        (lambda: FedGen(nn.Linear(2, 2), "network.2"), "generator must have a number `noise`"),
        (lambda: federate(algorithm("network.9"), module=client()), "head='network.9' is not a layer"),
        (
            lambda: federate(algorithm("network.0"), module=client()),
            r"head='network.0' cannot take the generator's features \(5,\)",
        ),
        (
            lambda: federate(FedGen(maker(classes=3), "network.2"), module=client()),
            r"head='network.2' gives \(2,\), the generator is for 3 classes",
        ),
        (
            lambda: federate(algorithm(), module=client(), personal_layers=["network.2"]),
            "head='network.2' has no weights that clients share",
        ),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_generator_learns_what_the_heads_call_a_class():
    made = algorithm(steps=300, lr=3e-3, weight_decay=0.0, decay=1.0)
    federation = federate(made, 3, module=client())
    made.generator.eval()
    labels = torch.arange(64) % 2
    z = generated(made.generator, labels, torch.Generator().manual_seed(9))
    assert float((federation.model.network[2](z).argmax(1) == labels).float().mean()) > 0.9
