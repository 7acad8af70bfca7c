"""Fixed points of the rounds on quadratics, which are known in closed form, and rounds worked out by hand."""

import pytest
import torch

from lkd.federated import (
    SCAFFOLD,
    Centralized,
    FedAvg,
    FedLin,
    FedNova,
    FedProx,
    FedShuffle,
    FedShuffleMVR,
    LocalTraining,
    Mime,
    MimeLite,
)

from .quadratic import Point, Quadratic, Turns, run


class NormalizedFedShuffle(FedShuffle):
    """The wrong rule: weights p_i that are normalized over the cohort."""

    def round(self, server):
        replies = server.train(config=self._config(server))
        return server.mean(replies, weight=lambda reply: server.client(reply).share)["delta"]


class Repeat(Point):
    """One row (h, e), seen `steps` times in an epoch: an epoch of so many full-batch steps."""

    def __init__(self, id, h, e, steps):
        super().__init__(id, [(h, e)], 2)
        self.steps = steps

    def num_batches(self):
        return self.steps

    def train_batches(self, seed):
        for _ in range(self.steps):
            yield self.h, self.e


def two(steps=(1, 10)):
    """h = (1, 4), e = (0, 1), equal shares; the optimum is 0.8."""
    return [Repeat(0, 1, 0.0, steps[0]), Repeat(1, 4, 1.0, steps[1])]


def by_name(value):
    return type(value).__name__ if not isinstance(value, float | tuple) else ""


@pytest.mark.parametrize(
    ("algorithm", "limit"),
    [
        (FedAvg(), 0.9469566831),
        (FedProx(mu=1.0), 0.9378842780),
        (FedProx(mu=10.0), 0.8510630813),
        (FedNova(), 0.6409660128),
        (FedShuffle(), 0.7853406494),
        (SCAFFOLD(option=1), 0.8),
        (SCAFFOLD(option=2), 0.8),
        (FedLin(), 0.8),
        (Mime(beta=0.0), 0.8),
    ],
    ids=by_name,
)
def test_limits_with_unequal_steps(algorithm, limit):
    federation = run(algorithm, 200, two())
    assert federation.model.x.item() == pytest.approx(limit, abs=1e-9)


@pytest.mark.parametrize("algorithm", [FedAvg(), FedNova()], ids=by_name)
def test_limit_with_equal_steps(algorithm):
    assert run(algorithm, 120, two((5, 5))).model.x.item() == pytest.approx(0.7482368080, abs=1e-9)


def test_scaffold_by_hand():
    """Option 2, x = c = c_i = 0, tau = (5, 5): the first rounds."""
    for rounds, x in ((1, 0.33616), (2, 0.560381608875), (3, 0.6834119598)):
        federation = run(SCAFFOLD(option=2), rounds, two((5, 5)))
        assert federation.model.x.item() == pytest.approx(x, abs=1e-9)
        if rounds == 1:
            kept = [float(federation.engine.host.store.get(i)["c"]["x"]) for i in (0, 1)]
            assert kept == pytest.approx([0.0, -2.68928], abs=1e-9)
            assert float(federation.algorithm.state["c"]["x"]) == pytest.approx(-1.34464, abs=1e-9)


def test_scaffold_divides_by_all_clients_not_by_the_cohort():
    federation = run(SCAFFOLD(option=2), 1, two(), size=1)
    (who,) = [i for i in (0, 1) if federation.engine.host.store.get(i)]
    change = float(federation.engine.host.store.get(who)["c"]["x"])
    assert float(federation.algorithm.state["c"]["x"]) == pytest.approx(change / 2, abs=1e-12)


def test_scaffold_sums_variates_equally_when_weights_are_not():
    clients = [Point(0, [(1, 0.0)], 2), Point(1, [(4, 1.0)] * 3, 2)]
    federation = run(SCAFFOLD(weighting="samples"), 1, clients)
    kept = [float(federation.engine.host.store.get(i)["c"]["x"]) for i in (0, 1)]
    assert float(federation.algorithm.state["c"]["x"]) == pytest.approx(sum(kept) / 2, abs=1e-12)


def test_momentum_of_mime_by_hand():
    """beta = .9, one full-batch step: y = x - eta ((1 - beta) g + beta m), then m at the old x."""
    x = m = 0.0
    for rounds in (1, 2, 3):
        gradient = (1 * (x - 0.0) + 4 * (x - 1.0)) / 2
        x, m = x - 0.05 * (0.1 * gradient + 0.9 * m), 0.1 * gradient + 0.9 * m
        for algorithm in (Mime(beta=0.9), MimeLite(beta=0.9)):
            federation = run(algorithm, rounds, two((1, 1)))
            assert federation.model.x.item() == pytest.approx(x, abs=1e-12)
            assert float(federation.algorithm.state["m"]["x"]) == pytest.approx(m, abs=1e-12)


@pytest.mark.parametrize(("rho", "steps"), [(0.9, (1, 10)), (0.5, (3, 7))])
def test_fednova_counts_what_momentum_adds_up(rho, steps):
    """||a_i||_1 in closed form; the running form of the code must agree with it."""

    def norm(tau):
        return (tau - rho * (1 - rho**tau) / (1 - rho)) / (1 - rho)

    module = Quadratic(momentum=rho)
    federation = run(FedNova(), 1, two(steps), module=module)
    changes = []
    for (h, e), tau in zip(((1, 0.0), (4, 1.0)), steps, strict=True):
        y = velocity = 0.0
        for _ in range(tau):
            velocity = rho * velocity + h * (y - e)
            y -= 0.05 * velocity
        changes.append(y)
    norms = [norm(tau) for tau in steps]
    expected = sum(norms) / 2 * sum(c / n for c, n in zip(changes, norms, strict=True)) / 2
    assert federation.model.x.item() == pytest.approx(expected, abs=1e-12)


def test_fednova_with_a_proximal_term_by_hand():
    mu, eta, steps = 2.0, 0.05, (1, 10)
    federation = run(FedNova(mu=mu), 1, two(steps))
    changes = []
    for (h, e), tau in zip(((1, 0.0), (4, 1.0)), steps, strict=True):
        y = 0.0
        for _ in range(tau):
            y -= eta * (h * (y - e) + mu * y)
        changes.append(y)
    norms = [(1 - (1 - eta * mu) ** tau) / (eta * mu) for tau in steps]
    expected = sum(steps) / 2 * sum(c / n for c, n in zip(changes, norms, strict=True)) / 2
    assert federation.model.x.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("algorithm", "steps"),
    [
        (FedProx(mu=0.0), (1, 10)),
        (FedNova(), (5, 5)),
        (MimeLite(beta=0.0), (1, 10)),
        (SCAFFOLD(), (1, 10)),
    ],
    ids=by_name,
)
def test_degenerate_cases_are_fedavg(algorithm, steps):
    """mu = 0, equal steps, no momentum; and SCAFFOLD's first round, whose variates are zero."""
    rounds = 1 if isinstance(algorithm, SCAFFOLD) else 3
    x = run(algorithm, rounds, two(steps)).model.x
    torch.testing.assert_close(x, run(FedAvg(), rounds, two(steps)).model.x, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    "algorithm", [FedAvg(), FedProx(0.0), SCAFFOLD(1), SCAFFOLD(2), FedNova(), Mime(0.0)], ids=by_name
)
def test_one_client_is_plain_training(algorithm):
    """Three rounds of four steps are twelve steps of gradient descent."""
    rows = [(2.0, 1.0), (1.0, 3.0)]
    federation = run(algorithm, 3, [Point(0, rows, 1)], LocalTraining(steps=4))
    x = 0.0
    for _ in range(12):
        x -= 0.05 * (2 * (x - 1) + (x - 3)) / 2
    assert federation.model.x.item() == pytest.approx(x, abs=1e-12)


def test_one_full_batch_step_is_sgd_on_the_pooled_data():
    clients = [Point(0, [(1, 0.0)], 2), Point(1, [(4, 1.0), (2, 5.0), (3, 1.0)], 2)]
    fedavg, pooled = (run(a, 5, clients) for a in (FedAvg(), Centralized()))
    torch.testing.assert_close(fedavg.model.x, pooled.model.x, rtol=0, atol=1e-14)
    x = 0.0
    for _ in range(5):
        x -= 0.05 * sum(h * (x - e) for h, e in ((1, 0), (4, 1), (2, 5), (3, 1))) / 4
    assert fedavg.model.x.item() == pytest.approx(x, abs=1e-12)


class TestSixPoints:
    """The toy of the FedShuffle paper: six unit vectors of R^6, on clients that hold one, two and three of them.

    Runs begin a little off the optimum, by more than the tests let pass: then few rounds are enough to return to it, or to
    go almost all the way to another fixed point.
    """

    OPTIMUM = torch.full((6,), 1 / 6, dtype=torch.float64)

    def error(self, algorithm, rounds=250, size=None, lr=1 / 80, start=0.17):
        eye, clients, first = torch.eye(6).tolist(), [], 0
        for id, n in enumerate((1, 2, 3)):
            rows = [(1.0, eye[j]) for j in range(first, first + n)]
            probability = 1.0 if size is None else size / 3
            clients.append(Point(id, rows, 3, 1, probability=probability, share=n / 6))
            first += n
        module = Quadratic(6, lr, start=start)
        federation = run(algorithm(), rounds, clients, module=module, size=size, cohorts=Turns)
        return float((federation.model.x - self.OPTIMUM).square().sum())

    def test_fedavg_is_biased(self):
        """Weights of 1, 4 and 9 for the clients in place of 1, 2 and 3 are 1.701e-2 away from the optimum."""
        assert self.error(FedAvg, 150, lr=1 / 60) == pytest.approx(1.701e-2, rel=0.05)

    def test_fednova_with_reshuffling(self):
        assert self.error(FedNova, 300, lr=1 / 240) < 2e-6

    def test_fedshuffle(self):
        assert self.error(FedShuffle) < 2e-6

    def test_partial_participation_is_unbiased_and_the_normalized_rule_is_not(self):
        """Two of three clients a round: the normalized rule's fixed point is 1.852e-3 away from the optimum."""
        assert self.error(FedShuffle, 240, size=2, lr=1 / 60) < 2e-6
        wrong = self.error(NormalizedFedShuffle, 240, size=2, lr=1 / 60)
        assert wrong == pytest.approx(1.852e-3, rel=0.05)

    def test_momentum_variance_reduction(self):
        """Plain FedShuffle is 4e-7 away where it ends."""
        assert self.error(FedShuffleMVR, start=0.167) < 4e-8
