"""FML: equations in closed form, rounds by hand, what travels, what is refused."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from lkd.federated import FML, FedAvg, Federation, Local, LocalTraining
from lkd.federated.knowledge.fml import fml_loss
from lkd.modules import Classifier

from ..quadratic import loader, trainer
from ..test_rounds import samples
from .two_models import assert_same_bits, batches, federate, kept, net, pair, sgd

PRIVATE = {"personal_layers": ["network.private"]}


def logits(seed, b=4, c=3):
    g = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(b, c, generator=g, dtype=torch.float64)


def softmax(row):
    exps = [math.exp(v) for v in row]
    return [e / sum(exps) for e in exps]


def test_the_loss_is_the_papers():
    a, b, y, alpha, beta = logits(0), logits(1), [0, 2, 1, 1], 0.3, 0.8
    total = 0.0
    for i, label in enumerate(y):
        p, q = softmax(a[i].tolist()), softmax(b[i].tolist())
        total += (1 - alpha) * sum(qc * math.log(qc / pc) for pc, qc in zip(p, q, strict=True))
        total += beta * -math.log(q[label])
        total += (1 - beta) * sum(pc * math.log(pc / qc) for pc, qc in zip(p, q, strict=True))
    assert float(fml_loss(a, b, torch.tensor(y), alpha, beta)) == pytest.approx(total / 4, rel=1e-12)


def test_neither_model_is_moved_by_what_the_other_is_to_learn():
    """Closed form: each model's gradient is that of its own loss, with the other's probabilities as constants."""
    alpha, beta, y = 0.3, 0.8, torch.tensor([0, 2, 1, 1])
    a, b = logits(0).requires_grad_(), logits(1).requires_grad_()
    (alpha * F.cross_entropy(a, y) + fml_loss(a, b, y, alpha, beta)).backward()
    p, q, one_hot = a.softmax(1), b.softmax(1), F.one_hot(y, 3)
    torch.testing.assert_close(a.grad, (alpha * (p - one_hot) + (1 - alpha) * (p - q)) / 4)
    torch.testing.assert_close(b.grad, (beta * (q - one_hot) + (1 - beta) * (q - p)) / 4)


def test_models_that_agree_teach_each_other_nothing():
    a, y = logits(0), torch.tensor([0, 2, 1, 1])
    assert float(fml_loss(a, a, y, alpha=0.0, beta=0.0)) == pytest.approx(0, abs=1e-12)


def by_hand(private, shared, clients, rounds, alpha, beta):
    """FML with separate losses, optimizers and networks; `private` has a network for each client."""
    for r in range(rounds):
        trained = []
        for own, client in zip(private, clients, strict=True):
            meme = copy.deepcopy(shared)
            optimizers = [sgd(own.parameters()), sgd(meme.parameters())]
            for x, y in batches(client, r):
                log_p, log_q = own(x).log_softmax(1), meme(x).log_softmax(1)
                p, q, rows = log_p.exp().detach(), log_q.exp().detach(), torch.arange(len(y))
                ours = -alpha * log_p[rows, y].mean() + (1 - alpha) * (q * (q.log() - log_p)).sum() / len(y)
                its = -beta * log_q[rows, y].mean() + (1 - beta) * (p * (p.log() - log_q)).sum() / len(y)
                for optimizer, loss in zip(optimizers, (ours, its), strict=True):
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
            trained.append(meme)
        total = sum(c.num_samples for c in clients)
        with torch.no_grad():
            for name, mean in shared.named_parameters():
                mean.copy_(
                    sum(
                        c.num_samples / total * m.get_parameter(name)
                        for c, m in zip(clients, trained, strict=True)
                    )
                )
    return private, shared


def test_rounds_by_hand_with_two_architectures():
    federation = federate(
        FML(0.3, 0.8),
        rounds=3,
        module=pair(1),
        other_models=[pair(2, shared=9, width=7)],  # its own start of the shared network counts for nothing
        shared_layers=["network.shared"],
        **PRIVATE,
    )
    private = [net(1), net(2, 7), net(1)]
    private, shared = by_hand(private, net(0, 4), samples(), 3, 0.3, 0.8)
    for module in (federation.model, federation.other_models[0]):
        for ours, theirs in zip(module.network.shared.parameters(), shared.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)
    for i, model in enumerate(private):
        own = kept(federation, i, "network.private")
        for name, value in model.named_parameters():
            torch.testing.assert_close(own[name], value.detach())


def test_without_teaching_it_is_local_training_beside_fedavg():
    """Bit for bit."""
    federation = federate(FML(1.0, 1.0), **PRIVATE)
    context = federate(Local(), module=Classifier(net(1), 2, optimizer=sgd))
    average = federate(FedAvg(), module=Classifier(net(0, 4), 2, optimizer=sgd))
    for i in range(3):
        alone = kept(context, i, "network")
        assert all(torch.equal(t, alone[n]) for n, t in kept(federation, i, "network.private").items())
    for name, value in federation.model.network.shared.named_parameters():
        assert torch.equal(value, average.model.network.get_parameter(name))


def test_one_client_keeps_its_own_average():
    federation = federate(FML(), clients=samples()[:1], **PRIVATE)
    _, shared = by_hand([net(1)], net(0, 4), samples()[:1], 2, 0.5, 0.5)
    for ours, theirs in zip(federation.model.network.shared.parameters(), shared.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_shared_model_travels_and_nothing_else():
    federation = federate(FML(), rounds=2, **PRIVATE)
    weights = sum(p.nbytes for p in net(0, 4).parameters())
    assert federation.bytes_down == 2 * 3 * (weights + 2 * 8)  # round and steps
    assert federation.bytes_up == 2 * 3 * (weights + 8)  # steps
    assert {n.split(".")[1] for n in federation.x} == {"shared"}


def test_same_seed_same_bits_in_any_order():
    one, two = federate(FML(), **PRIVATE), federate(FML(), **PRIVATE)
    backwards = federate(FML(), clients=samples()[::-1], **PRIVATE)
    assert_same_bits(one, two)
    assert_same_bits(one, backwards)


def test_both_networks_are_measured():
    module = pair()
    module.log = lambda name, value, **kwargs: logged.__setitem__(name, value)
    logged = {}
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    module.eval()
    module.validation_step((x, module.network.shared(x).argmax(1)))
    assert float(logged["val/acc_shared"].compute()) == 1
    private = (module.network.private(x).argmax(1) == module.network.shared(x).argmax(1)).float().mean()
    assert float(logged["val/acc_private"].compute()) == float(logged["val/acc"].compute()) == float(private)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FML(alpha=1.5), r"alpha=1.5 must be in \[0, 1\]"),
        (
            lambda: federate(FML()),
            r"network.private.0.weight would travel.*personal_layers=\['network.private'\]",
        ),
        (
            lambda: federate(FML(), other_models=[pair(2)], **PRIVATE),
            r"a 'network.shared' of its own: say Federation\(shared_layers=\['network.shared'\]\)",
        ),
        (lambda: federate(FML(), personal_layers=["network"]), "nothing would travel"),
        (
            lambda: federate(FML(private="network.big"), **PRIVATE),
            "private='network.big' is not a layer of PrivateSharedClassifier",
        ),
        (lambda: pair(1).__class__(net(1), net(0), answer="both"), "answer='both' must be"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_it_learns():
    """Points split by a line: private and shared networks both end well above their start."""
    federation = Federation(
        pair(optimizer=lambda p: torch.optim.SGD(p, lr=0.5)), FML(), LocalTraining(epochs=5), **PRIVATE
    )
    trainer(5).fit(federation, loader(samples()))
    for client in samples():
        own, module = kept(federation, client.id, "network.private"), net(1)
        module.load_state_dict(own)
        assert float((module(client.x).argmax(1) == client.y).float().mean()) > 0.85
