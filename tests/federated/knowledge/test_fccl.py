"""FCCL: the correlation in plain numpy, rounds by hand, what travels, what is refused."""

import copy

import numpy as np
import pytest
import torch

from lkd.federated import FCCL, Local
from lkd.federated.knowledge.fccl import cross_correlation_loss

from ..test_rounds import samples
from .public import NUMBER, assert_own, descend, federate, nets, train_privately, with_public
from .two_models import assert_same_bits


def logits(seed, b=7, c=4):
    g = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(b, c, generator=g, dtype=torch.float64) + torch.arange(c)


def by_correlation(a, b, lam):
    """From numpy's correlation coefficients."""
    classes, total = a.shape[1], 0.0
    for u in range(classes):
        for v in range(classes):
            m = np.corrcoef(a[:, u], b[:, v])[0, 1]
            total += (1 - m) ** 2 if u == v else lam * (1 + m) ** 2
    return total


@pytest.mark.parametrize("lam", [0.0051, 0.5])
def test_the_loss_is_the_authors(lam):
    a, b = logits(0), logits(1)
    found = float(cross_correlation_loss(a, b, lam))
    assert found == pytest.approx(by_correlation(a.numpy(), b.numpy(), lam), rel=1e-10)
    barlow = by_correlation(a.numpy(), b.numpy(), lam) - lam * sum(
        1 + 2 * np.corrcoef(a[:, u], b[:, v])[0, 1] for u in range(4) for v in range(4) if u != v
    )
    assert found != pytest.approx(barlow, rel=1e-3)  # off the diagonal it is -1, not 0


def test_the_authors_code_has_another_length_of_the_correlation():
    """theirs: std with B - 1, sum over B; (B - 1) / B of the correlation."""
    a, b, size = logits(0, 200), logits(1, 200), 200
    c = ((a - a.mean(0)) / a.std(0)).T @ ((b - b.mean(0)) / b.std(0)) / size
    theirs = (c.diagonal() - 1).square().sum()
    theirs += 0.0051 * ((c + 1).square().sum() - (c.diagonal() + 1).square().sum())
    assert float(cross_correlation_loss(a, b)) == pytest.approx(float(theirs), rel=0.01)


def test_gradient():
    a, b = logits(0).requires_grad_(), logits(1)
    assert torch.autograd.gradcheck(lambda z: cross_correlation_loss(z, b, 0.3), a)


def test_the_teacher_gets_no_gradient():
    a, b = logits(0).requires_grad_(), logits(1).requires_grad_()
    cross_correlation_loss(a, b).backward()
    assert b.grad is None and float(a.grad.abs().max()) > 0


def test_what_it_does_not_see_and_its_minimum():
    a, b = logits(0), logits(1)
    scaled = 3 * a + torch.tensor([1.0, -2.0, 0.0, 5.0])
    assert float(cross_correlation_loss(scaled, b)) == pytest.approx(float(cross_correlation_loss(a, b)))
    assert float(cross_correlation_loss(2 * b, b, lam=0.0)) == pytest.approx(0, abs=1e-12)
    two = logits(0)[:, :1]
    opposed = torch.cat([two, -two], 1)  # two classes of a softmax: the minimum with any lam
    assert float(cross_correlation_loss(opposed, opposed, lam=1.0)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("case", ["one sample", "a class that never changes"])
def test_nothing_to_correlate_gives_no_gradient_instead_of_nan(case):
    a = logits(0)[:1] if case == "one sample" else logits(0)
    if case != "one sample":
        a[:, 2] = 4.0
    b = logits(1)[: len(a)]
    a.requires_grad_()
    cross_correlation_loss(a, b).backward()
    assert a.grad.isfinite().all()
    assert float(a.grad.abs().sum() if len(a) == 1 else 0) == 0


def test_it_is_computed_in_float32_under_autocast():
    a, b = logits(0).float(), logits(1).float()
    half = cross_correlation_loss(a.bfloat16(), b.bfloat16())
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(cross_correlation_loss(a, b)), rel=0.05)


def collaborate(models, x, lam):
    with torch.no_grad():
        mean = sum(m(x) for m in models) / len(models)
    b = (mean - mean.mean(0)) / mean.std(0, unbiased=False)
    for network in models:
        a = network(x)
        a = (a - a.mean(0)) / a.std(0, unbiased=False)
        c = a.T @ b / len(x)
        eye = torch.eye(len(c))
        descend(network, ((c - 1).square() * eye).sum() + lam * ((c + 1).square() * (1 - eye)).sum())


def by_hand(rounds, lam, inter, intra, clients, warmup=1):
    models, x = nets(), clients[0].public.x
    pretrained, previous = copy.deepcopy(models), copy.deepcopy(models)
    for r in range(rounds):
        if r >= warmup:
            collaborate(models, x, lam)
        for network, old, first, client in zip(models, previous, pretrained, clients, strict=True):

            def former(x, network=network, old=old, first=first):
                log_p, total = network(x).log_softmax(1), 0.0
                for teacher, weight in ((old, inter), (first, intra)):
                    q = teacher(x).softmax(1).detach()
                    total = total + weight * (q * (q.log() - log_p)).sum() / len(x)
                return total

            train_privately(network, client, r, former if r >= warmup else None)
        previous = copy.deepcopy(models)
        pretrained = copy.deepcopy(models) if r < warmup else pretrained
    return models


@pytest.mark.parametrize(("rounds", "warmup"), [(4, 1), (2, 0), (4, 2)])
def test_rounds_by_hand(rounds, warmup):
    federation = federate(FCCL(0.1, inter=0.7, intra=0.4, warmup=warmup), rounds=rounds)
    assert_own(federation, by_hand(rounds, 0.1, 0.7, 0.4, with_public(), warmup), rtol=1e-3, atol=1e-5)


def test_each_former_model_matters():
    """The test above would not see two that are mixed up if their weights were the same."""
    found = [federate(FCCL(inter=a, intra=b), rounds=4) for a, b in ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0))]
    weights = [f.engine.host.store.get(0)["personal"]["network.0.weight"] for f in found]
    assert all(not torch.allclose(weights[i], weights[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_without_others_and_former_models_it_is_local_training():
    exchange = FCCL(inter=0.0, intra=0.0)
    exchange.compare = lambda logits, targets: 0.0 * logits.sum()
    one, two = federate(exchange), federate(Local())
    for i in range(3):
        for name, value in one.engine.host.store.get(i)["personal"].items():
            assert torch.equal(value, two.engine.host.store.get(i)["personal"][name])


def test_a_client_that_comes_late_has_been_alone_after_its_first_round():
    federation = federate(FCCL(), rounds=6, size=1)
    for i in range(3):
        memory = federation.engine.host.store.get(i).get("memory", {})
        assert not memory or {n.split("/")[0] for n in memory} == {"previous", "pretrained"}


def test_logits_travel_up_and_their_mean_down():
    federation = federate(FCCL(samples=6), rounds=3)
    floats = 6 * 2 * 4
    assert federation.bytes_down == 3 * (2 * NUMBER + 2 * (2 * NUMBER + 3 * NUMBER + floats))
    assert federation.bytes_up == 3 * (NUMBER + 2 * (floats + NUMBER))


def test_same_seed_same_bits_in_any_order():
    one, two = (federate(FCCL(batch_size=4), rounds=3) for _ in range(2))
    assert_same_bits(one, two)
    assert_same_bits(one, federate(FCCL(batch_size=4), rounds=3, clients=with_public(samples()[::-1])))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FCCL(lam=-1.0), "lam=-1.0 must be 0 or more"),
        (lambda: FCCL(intra=-0.1), "intra=-0.1 must be 0 or more"),
        (lambda: FCCL(batch_size=1), "batch_size=1 must be 2 or more"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()
