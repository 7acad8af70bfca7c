"""KT-pFL: the coefficients' gradient and step in plain loops, rounds by hand, what travels, what is refused."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from lkd.federated import FedMD, KTpFL, Local
from lkd.federated.knowledge.ktpfl import coefficient_gradient, mixtures, project_to_simplex

from ..quadratic import loader, trainer
from ..test_rounds import samples
from .public import NUMBER, assert_own, descend, federate, nets, train_privately, with_public
from .two_models import assert_same_bits


def said(clients=3, n=4, c=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(clients, n, c, generator=g, dtype=torch.float64)).softmax(-1)


def rows(clients=3, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(clients), clients))


def divergence(z, row, k):
    """KL(sum_j c_j z_j || z_k), mean over samples, in plain loops."""
    total = 0.0
    for n in range(z.shape[1]):
        for c in range(z.shape[2]):
            t = sum(float(row[j]) * float(z[j, n, c]) for j in range(len(z)))
            total += t * math.log(t / float(z[k, n, c]))
    return total / z.shape[1]


def test_the_gradient_of_the_coefficients_by_differences():
    z, c, h = said(), rows(), 1e-6
    found = coefficient_gradient(z, c)
    for k in range(3):
        for j in range(3):
            up, down = c[k].clone(), c[k].clone()
            up[j] += h
            down[j] -= h
            slope = (divergence(z, up, k) - divergence(z, down, k)) / (2 * h)
            assert float(found[k, j]) == pytest.approx(slope, abs=1e-6)


def test_it_is_the_divergence_from_the_mixture_and_not_to_it():
    z, c = said(), rows().requires_grad_()
    t = mixtures(z, c)
    (t * (t.log() - z.log())).sum((1, 2)).mean().backward()
    torch.testing.assert_close(coefficient_gradient(z, c.detach()) / 3, c.grad / 4)
    reverse = torch.func.grad(lambda c: (z * (z.log() - mixtures(z, c).log())).sum() / 4)(c.detach())
    assert not torch.allclose(coefficient_gradient(z, c.detach()), reverse, atol=1e-2)


def test_the_projection_is_the_nearest_distribution():
    for row in np.random.default_rng(0).normal(size=(5, 4)):
        found = project_to_simplex(torch.from_numpy(row)).numpy()
        best = minimize(
            lambda p, row=row: ((p - row) ** 2).sum(),
            np.full(4, 0.25),
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
        )
        assert found.sum() == pytest.approx(1) and found.min() >= 0
        np.testing.assert_allclose(found, best.x, atol=1e-3)
    torch.testing.assert_close(project_to_simplex(rows()), rows())


def stepped(z, c, shares, lam, rho, lr):
    """A gradient step by hand; no projection is needed where all stay positive and rows are centered by theta."""
    new = []
    for k in range(len(z)):
        row = []
        for j in range(len(z)):
            slope = 0.0
            for n in range(z.shape[1]):
                for cls in range(z.shape[2]):
                    t = sum(float(c[k, i]) * float(z[i, n, cls]) for i in range(len(z)))
                    slope += float(z[j, n, cls]) * (math.log(t / float(z[k, n, cls])) + 1)
            slope = lam * shares[k] * slope / z.shape[1] + 2 * rho * (float(c[k, j]) - 1 / len(z))
            row.append(float(c[k, j]) - lr * slope)
        theta = (sum(row) - 1) / len(row)  # the projection as long as nobody falls below 0
        assert min(row) > theta
        new.append([v - theta for v in row])
    return torch.tensor(new, dtype=torch.float64)


def test_a_step_of_the_coefficients():
    z, c, shares = said(), 0.5 * rows() + 1 / 6, [0.2, 0.3, 0.5]
    found = KTpFL(lam=0.8, rho=0.3, lr=0.1).step(z, c, torch.tensor(shares).double())
    torch.testing.assert_close(found, stepped(z, c, shares, 0.8, 0.3, 0.1))


def test_it_settles_where_the_objective_is_least():
    """Two clients that agree find each other; the third keeps to itself. The regularizer holds them back."""
    z = said()
    z[1] = 0.98 * z[0] + 0.02 / 5
    shares = torch.full((3,), 1 / 3).double()

    def settled(rho, lr):
        c = torch.full((3, 3), 1 / 3).double()
        for _ in range(500):
            c = KTpFL(rho=rho, lr=lr).step(z, c, shares)
        return c

    free, held, tight = settled(0.05, 0.5), settled(0.5, 0.5), settled(100.0, 0.005)
    assert float(free[0, :2].sum()) > float(held[0, :2].sum()) > float(tight[0, :2].sum())
    assert float(free[0, :2].sum()) > 0.9 and float(free[2, 2]) > 0.8
    torch.testing.assert_close(tight, torch.full((3, 3), 1 / 3).double(), atol=0.02, rtol=0)
    for k in range(3):  # no other distribution has a lower objective

        def objective(p, k=k):
            return divergence(z, p, k) / 3 + 0.5 * ((p - 1 / 3) ** 2).sum()

        others = np.random.default_rng(k).dirichlet(np.ones(3), 200)
        assert all(objective(held[k].numpy()) <= objective(p) + 1e-9 for p in others)


def by_hand(rounds, lam, rho, lr, temperature, clients):
    models, x = nets(), clients[0].public.x
    c = torch.full((3, 3), 1 / 3).double()
    total = sum(client.num_samples for client in clients)
    for r in range(rounds):
        if r:
            with torch.no_grad():
                z = torch.stack([(m(x).double() / temperature).softmax(1) for m in models])
            c = stepped(z, c, [client.num_samples / total for client in clients], lam, rho, lr)
            for k, network in enumerate(models):
                target = sum(float(c[k, j]) * z[j] for j in range(3)).float()
                log_p = (network(x) / temperature).log_softmax(1)
                divergence = (target * (target.log() - log_p)).sum(1).mean()
                descend(network, lam * temperature**2 * divergence)
        for network, client in zip(models, clients, strict=True):
            train_privately(network, client, r)
    return models, c


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_rounds_by_hand(temperature):
    federation = federate(KTpFL(0.7, 0.2, 0.3, temperature), rounds=4)
    models, c = by_hand(4, 0.7, 0.2, 0.3, temperature, with_public())
    assert_own(federation, models)
    torch.testing.assert_close(federation.algorithm.state["coefficients"]["c"], c, rtol=1e-4, atol=1e-5)
    assert float((c - 1 / 3).abs().max()) > 5e-4


def same_personal(one, two):
    return all(
        torch.equal(t, two.engine.host.store.get(i)["personal"][n])
        for i in range(3)
        for n, t in one.engine.host.store.get(i)["personal"].items()
    )


def test_without_distillation_it_is_local_training():
    one = federate(KTpFL(lam=0.0, lr=0.0))
    two = federate(Local())
    assert same_personal(one, two)


def test_with_fixed_coefficients_it_is_fedmd_with_probabilities():
    one, two = federate(KTpFL(lr=0.0), rounds=3), federate(FedMD(of="probabilities"), rounds=3)
    for i in range(3):
        for name, value in one.engine.host.store.get(i)["personal"].items():
            torch.testing.assert_close(value, two.engine.host.store.get(i)["personal"][name])


def test_of_identical_clients_none_is_preferred():
    z = said(1).repeat(3, 1, 1)
    c = KTpFL().step(z, torch.full((3, 3), 1 / 3).double(), torch.full((3,), 1 / 3).double())
    torch.testing.assert_close(c, torch.full((3, 3), 1 / 3).double())


def test_one_client_learns_from_itself_alone():
    federation = federate(KTpFL(), rounds=3, clients=with_public([type(samples()[0])(0, 8, population=1)]))
    assert torch.equal(federation.algorithm.state["coefficients"]["c"], torch.ones(1, 1).double())


def test_those_who_are_away_keep_their_coefficients():
    """Cohorts of two of three: rows still add up to 1, and what a client thinks of one who is away stays."""
    federation = federate(KTpFL(rho=0.01, lr=1.0), rounds=2, size=2)
    c = federation.algorithm.state["coefficients"]["c"]
    torch.testing.assert_close(c.sum(1), torch.ones(3).double())
    here = sorted(r.client for r in federation.records)
    (away,) = {0, 1, 2} - set(here)
    assert torch.allclose(c[away], torch.full((3,), 1 / 3).double())
    assert torch.allclose(c[:, away], torch.full((3,), 1 / 3).double())
    assert not torch.allclose(c[here[0]], torch.full((3,), 1 / 3).double(), atol=1e-4)


def test_a_second_fit_begins_with_equal_coefficients():
    algorithm = KTpFL()
    federation = federate(algorithm, rounds=3)
    trainer(1).fit(federation, loader(with_public(), per_epoch=1))
    assert algorithm.state == {}  # its first round has no exchange


def test_logits_travel_up_and_a_clients_own_targets_down():
    federation = federate(KTpFL(samples=6), rounds=3)
    floats = 6 * 2 * 4
    assert federation.bytes_down == 3 * (2 * NUMBER + 2 * (2 * NUMBER + 3 * NUMBER + floats))
    assert federation.bytes_up == 3 * (NUMBER + 2 * (floats + NUMBER))


def test_same_seed_same_bits_in_any_order():
    one, two = (federate(KTpFL(batch_size=3), rounds=3) for _ in range(2))
    assert_same_bits(one, two)
    assert_same_bits(one, federate(KTpFL(batch_size=3), rounds=3, clients=with_public(samples()[::-1])))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KTpFL(lam=-1.0), "lam=-1.0 must be 0 or more"),
        (lambda: KTpFL(rho=-0.1), "rho=-0.1 must be 0 or more"),
        (lambda: KTpFL(temperature=0.0), "temperature=0.0 must be above 0"),
        (lambda: KTpFL(rho=4.0, lr=0.5), "lr=0.5 must be at most 1 / rho = 0.25"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()
