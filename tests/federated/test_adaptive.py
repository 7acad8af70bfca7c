"""FedAdam, FedYogi and FedAdagrad against their formulas in NumPy."""

import numpy as np
import pytest
import torch

from lkd.federated import FedAdagrad, FedAdam, FedAvg, FedYogi

from .quadratic import Point, run


def second_moment(kind, v, d2, beta2=0.99):
    if kind is FedAdam:
        return beta2 * v + (1 - beta2) * d2
    return v + d2 if kind is FedAdagrad else v - (1 - beta2) * d2 * np.sign(v - d2)


@pytest.mark.parametrize("kind", [FedAdam, FedYogi, FedAdagrad])
def test_formula(kind):
    rng = np.random.default_rng(0)
    x, m, v, tau, lr = np.ones(4), np.zeros(4), np.full(4, 0.01**2), 0.01, 0.05
    beta1 = 0.0 if kind is FedAdagrad else 0.9
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    optimizer = kind([weight], lr=lr, tau=tau)
    for _ in range(5):
        delta = rng.normal(size=4)
        m = beta1 * m + (1 - beta1) * delta
        v = second_moment(kind, v, delta**2)
        x = x + lr * m / (np.sqrt(v) + tau)
        weight.grad = torch.from_numpy(-delta)
        optimizer.step()
    np.testing.assert_allclose(weight.detach().numpy(), x, rtol=1e-12)


def test_as_a_federations_optimizer():
    clients = [Point(0, [(1, 1.0)], 2), Point(1, [(1, 3.0)], 2)]
    federation = run(FedAvg(), 1, clients, server_optimizer=lambda p: FedYogi(p, lr=0.1, tau=1.0))
    delta = 0.05 * 2
    v = 1 - 0.01 * delta**2
    assert federation.model.x.item() == pytest.approx(0.1 * 0.1 * delta / (v**0.5 + 1))


@pytest.mark.parametrize(("arguments", "message"), [({"lr": 0.0}, "lr=0.0"), ({"beta1": 1.0}, "beta1=1.0")])
def test_bad_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        FedAdam([torch.zeros(1, requires_grad=True)], **arguments)
