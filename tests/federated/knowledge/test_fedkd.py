"""FedKD: equations, rounds by hand with NumPy's SVD, the bytes of factors, late clients, exactness."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lkd.federated import Federation, FedKD, Local, LocalTraining
from lkd.federated.knowledge.fedkd import energy_at, fedkd_loss
from lkd.modules import Classifier

from ..quadratic import loader, trainer
from ..test_rounds import Samples, samples
from .two_models import assert_same_bits, batches, federate, kept, net, pair, sgd

HIDDEN = ("network.private.1", "network.shared.1")


def logits(seed, b=4, c=3):
    g = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(b, c, generator=g, dtype=torch.float64)


def softmax(row):
    exps = [math.exp(v) for v in row]
    return [e / sum(exps) for e in exps]


def test_the_loss_is_the_papers():
    a, b, y = logits(0), logits(1), [0, 2, 1, 1]
    h, k = logits(2, c=5), logits(3, c=5)
    ce_p = ce_s = soft = mse = 0.0
    for i, label in enumerate(y):
        p, q = softmax(a[i].tolist()), softmax(b[i].tolist())
        ce_p, ce_s = ce_p - math.log(p[label]) / 4, ce_s - math.log(q[label]) / 4
        soft += sum(qc * math.log(qc / pc) + pc * math.log(pc / qc) for pc, qc in zip(p, q, strict=True)) / 4
        mse += sum((u - v) ** 2 for u, v in zip(h[i].tolist(), k[i].tolist(), strict=True)) / 20
    found = fedkd_loss(a, b, torch.tensor(y), [(h, k)])
    assert float(found) == pytest.approx(ce_s + (soft + mse) / (ce_p + ce_s), rel=1e-12)


def test_gradients_in_closed_form():
    """Each model's is that of its own loss; the other's probabilities and the cross entropies' sum are constants."""
    y = torch.tensor([0, 2, 1, 1])
    a, b = logits(0).requires_grad_(), logits(1).requires_grad_()
    h, k = logits(2).requires_grad_(), logits(3).requires_grad_()
    fedkd_loss(a, b, y, [(h, k)]).backward()
    p, q, one_hot = a.softmax(1), b.softmax(1), F.one_hot(y, 3)
    scale = 1 / (F.cross_entropy(a, y) + F.cross_entropy(b, y))
    torch.testing.assert_close(a.grad, scale * (p - q) / 4)
    torch.testing.assert_close(b.grad, (q - one_hot) / 4 + scale * (q - p) / 4)
    torch.testing.assert_close(h.grad, scale * 2 * (h - k) / 12)
    torch.testing.assert_close(k.grad, -h.grad)


def test_models_that_agree_and_are_right_add_nothing():
    sure = torch.tensor([[200.0, 0.0]])
    assert float(fedkd_loss(sure, sure, torch.tensor([0]))) == 0.0


def test_the_less_sure_the_labels_the_less_is_learned_from_each_other():
    y, a, b = torch.tensor([0]), torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]])
    right = fedkd_loss(a, b, y) - F.cross_entropy(b, y)
    wrong = fedkd_loss(a, b, 1 - y) - F.cross_entropy(b, 1 - y)
    assert float(right) > 3 * float(wrong)


@pytest.mark.parametrize(("done", "energy"), [(0.1, 0.953), (0.5, 0.965), (1.0, 0.98), (1.2, 0.98)])
def test_the_energy_rises_with_the_training(done, energy):
    assert energy_at(done, 0.95, 0.98) == pytest.approx(energy, rel=1e-12)


def low_rank(update, energy):
    """By the paper's rule; also the number of values that are sent."""
    if update.ndim < 2:
        return update, update.size
    u, s, v = np.linalg.svd(update.astype(np.float64), full_matrices=False)
    k = 0
    while sum(s[:k] ** 2) < energy * sum(s**2):
        k += 1
    if k * sum(update.shape) >= update.size:
        return update, update.size
    return u[:, :k] @ np.diag(s[:k]) @ v[:k], k * sum(update.shape)


def by_hand(private, adapters, shared, clients, rounds, start, end, hidden=False):
    """FedKD with separate losses, optimizers and networks; returns the values that were sent up and down."""
    up = down = 0
    for r in range(rounds):
        energy = start + (end - start) * (r + 1) / rounds
        if r == 0:
            down += len(clients) * sum(p.numel() for p in shared.parameters())
        total = {name: 0.0 for name, _ in shared.named_parameters()}
        for own, adapter, client in zip(private, adapters, clients, strict=True):
            student = copy.deepcopy(shared)
            parts = [own.parameters(), [*student.parameters(), *adapter.parameters()]]
            optimizers = [sgd(list(p)) for p in parts]
            for x, y in batches(client, r):
                h, k = own[1](own[0](x)), student[1](student[0](x))
                log_p, log_q = own[2](h).log_softmax(1), student[2](k).log_softmax(1)
                p, q, rows = log_p.exp().detach(), log_q.exp().detach(), torch.arange(len(y))
                ce_p, ce_s = -log_p[rows, y].mean(), -log_q[rows, y].mean()
                both = (ce_p + ce_s).detach()
                ours = ce_p + (q * (q.log() - log_p)).sum() / len(y) / both
                its = ce_s + (p * (p.log() - log_q)).sum() / len(y) / both
                if hidden:  # in each loss, with the other model's state as a constant
                    ours = ours + (h - adapter(k).detach()).square().mean() / both
                    its = its + (h.detach() - adapter(k)).square().mean() / both
                gradients = [
                    torch.autograd.grad(
                        loss, [q for g in o.param_groups for q in g["params"]], retain_graph=True
                    )
                    for loss, o in ((ours, optimizers[0]), (its, optimizers[1]))
                ]
                for o, found in zip(optimizers, gradients, strict=True):
                    for parameter, g in zip(
                        (q for gr in o.param_groups for q in gr["params"]), found, strict=True
                    ):
                        parameter.grad = g
                    o.step()
            for name, value in student.named_parameters():
                update = (value - shared.get_parameter(name)).detach().numpy()
                approximation, values = low_rank(update, energy)
                total[name] = total[name] + client.num_samples * approximation
                up += values
        for name, value in shared.named_parameters():
            mean, values = low_rank(total[name] / sum(c.num_samples for c in clients), energy)
            value.data += torch.from_numpy(mean).float()
            down += (
                len(clients) * values if r < rounds - 1 else 0
            )  # the last change is sent in the next round
    return up, down


def wide(adapter=None, seed=1, shared=0, width=10):
    """A shared network that is wide enough for factors to be worth it."""
    module = pair(seed, shared, width, adapter)
    module.network.shared = net(shared, 24)
    return module


def line(seed=5):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(24, 10, bias=False)


@pytest.mark.parametrize("hidden", [False, True])
def test_rounds_by_hand(hidden):
    """Weights, what clients keep, and the bytes; the energy lies well between the singular values' steps."""
    rounds, clients = 3, samples()
    layers = HIDDEN if hidden else None
    adapters = [line() if hidden else nn.Identity() for _ in clients]
    federation = federate(
        FedKD(rounds, 0.5, 0.8, hidden=layers),
        rounds,
        module=wide(copy.deepcopy(adapters[0])),
        clients=clients,
    )
    private, shared = [net(1, 10) for _ in clients], net(0, 24)
    up, down = by_hand(private, adapters, shared, clients, rounds, 0.5, 0.8, hidden)
    for ours, theirs in zip(federation.model.network.shared.parameters(), shared.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    for i, model in enumerate(private):
        for name, value in model.named_parameters():
            torch.testing.assert_close(kept(federation, i, "network.private")[name], value.detach())
        for name, value in adapters[i].named_parameters():
            torch.testing.assert_close(kept(federation, i, "network.adapter")[name], value.detach())
    assert federation.bytes_up == 4 * up + rounds * 3 * 8  # steps
    assert federation.bytes_down == 4 * down + rounds * 3 * 3 * 8  # round, steps, energy
    whole = rounds * 3 * 4 * sum(p.numel() for p in shared.parameters())
    assert federation.bytes_up < 0.8 * whole and federation.bytes_down < 0.9 * whole


def test_one_sample_a_step_is_one_rank():
    """The gradient of a linear layer on one sample is an outer product, so K = 1 but for the rounding of the update."""
    client = Samples(0, 1, population=1, batch=1)
    federation = federate(FedKD(1, 0.999, 0.999), 1, module=wide(), clients=[client])
    values = (24 + 3) + 24 + (2 + 24) + 2
    assert federation.bytes_up == 4 * values + 8


def test_a_client_that_missed_a_round_gets_all_weights_and_all_begin_from_the_servers():
    seen = []

    class Watched(FedKD):
        def begin(self, context):
            super().begin(context)
            own = {n: p.detach().clone() for n, p in context.module.network.shared.named_parameters()}
            seen.append(
                (context.round, context.client.id, "network.shared.0.weight" in context.knowledge, own)
            )

    class Servers(FedKD):
        def round(self, server):
            x = {n: p.detach().clone() for n, p in server.models[0].network.shared.named_parameters()}
            servers.append(x)
            return super().round(server)

    class Both(Watched, Servers):
        pass

    servers = []
    clients = [Samples(i, 8 + 4 * i, population=5) for i in range(5)]
    federation = Federation(wide(), Both(8, 0.5, 0.6), LocalTraining(steps=2))
    trainer(8).fit(federation, loader(clients, size=2, seed=3))
    before = {r: {i for round, i, _, _ in seen if round == r} for r in range(8)}
    late = set()
    for r, i, whole, own in seen:
        assert whole == (r == 0 or i not in before[r - 1])
        late.add((whole, r > 0))
        for name, value in own.items():
            torch.testing.assert_close(value, servers[r][name], rtol=0, atol=1e-6)
    assert late == {(True, False), (True, True), (False, True)}


def test_with_all_energy_it_is_the_average():
    federation = federate(FedKD(2, 1.0, 1.0), 2, module=pair(1))
    private, shared = [net(1) for _ in range(3)], net(0, 4)
    by_hand(private, [nn.Identity()] * 3, shared, samples(), 2, 1.0 - 1e-12, 1.0 - 1e-12)
    for ours, theirs in zip(federation.model.network.shared.parameters(), shared.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_several_architectures_share_one_model():
    federation = federate(FedKD(2), 2, module=wide(), other_models=[wide(seed=2, shared=9, width=7)])
    one, other = federation.model.network, federation.other_models[0].network
    for ours, theirs in zip(one.shared.parameters(), other.shared.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert kept(federation, 1, "network.private")["0.weight"].shape == (7, 3)


def test_models_that_say_the_same_train_as_alone():
    """A private and a shared network with equal weights: no divergence, so that each step is the cross entropy's."""
    client = samples()[:1]
    module = pair(1)
    module.network.shared = copy.deepcopy(module.network.private)
    federation = federate(FedKD(1), 1, module=module, clients=client)
    alone = federate(Local(), 1, module=Classifier(net(1), 2, optimizer=sgd), clients=client)
    for name, value in kept(alone, 0, "network").items():
        for who in ("private", "shared"):
            torch.testing.assert_close(kept(federation, 0, f"network.{who}")[name], value)


def test_same_seed_same_bits_in_any_order():
    one, two = (federate(FedKD(2), module=wide()) for _ in range(2))
    backwards = federate(FedKD(2), module=wide(), clients=samples()[::-1])
    assert_same_bits(one, two)
    assert_same_bits(one, backwards)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FedKD(0), "rounds=0 must be 1 or more"),
        (lambda: FedKD(1, start=0.0), r"start=0.0 must be in \(0, 1\]"),
        (lambda: FedKD(1, end=1.1), r"end=1.1 must be in \(0, 1\]"),
        (
            lambda: federate(FedKD(1, shared="network.big")),
            "shared='network.big': this layer has no parameter",
        ),
        (
            lambda: federate(FedKD(1), other_models=[wide()]),
            r"network.shared.0.bias of other_models\[0\] is \(24,\), of model \(4,\): the shared model must be the same",
        ),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_hidden_states_of_other_sizes_need_an_adapter():
    with pytest.raises(
        RuntimeError, match=r"private layer gives \(4, 5\), the shared one \(4, 4\); give .* adapter"
    ):
        federate(FedKD(1, hidden=HIDDEN))


def test_what_the_server_has_trained_is_the_shared_model():
    """And it says of which of its two models figures are worth reading."""
    federation = federate(FedKD(2), 2, module=pair(1))
    before = pair(1).network
    for name, private in before.private.named_parameters():
        assert torch.equal(private, dict(federation.model.network.private.named_parameters())[name])
    moved = zip(before.shared.parameters(), federation.model.network.shared.parameters(), strict=True)
    assert all(not torch.equal(one, other) for one, other in moved)
    assert federation.trains_server_model
    with pytest.warns(
        UserWarning, match=r"has the start in network\.private\.0, .*: what comes .* in test/"
    ) as said:
        federation.on_test_start()
    assert "network.shared" not in str(said[0].message)
