"""D-PSGD: rounds in closed form as `x <- W x - gamma g(x)`, what travels, who is left out, what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from lkd.federated import DecentralizedSGD, FedAvg, Federation, Local, LocalTraining
from lkd.federated.topology import Chain, Complete, Grid, Ring, Star, TimeVarying
from lkd.modules import Classifier

from ..quadratic import Cohorts, Point, Quadratic, loader, run, trainer
from ..test_rounds import Noisy, Samples, samples

LR = 0.05
CURVATURES, OPTIMA = np.array([1.0, 4.0, 2.0, 0.5, 3.0]), np.array([0.0, 1.0, -2.0, 5.0, 0.3])
STAR = {(0, 1), (0, 2), (0, 3), (0, 4)}
CHAIN = {(0, 1), (1, 2), (2, 3), (3, 4)}


def points(curvatures=CURVATURES, optima=OPTIMA):
    rows = zip(curvatures, optima, strict=True)
    return [Point(i, [(h, e)], len(curvatures)) for i, (h, e) in enumerate(rows)]


def matrix(nodes, pairs):
    """Metropolis weights, from the definition."""
    degree = [sum(k in pair for pair in pairs) for k in range(nodes)]
    w = np.zeros((nodes, nodes))
    for i, j in pairs:
        w[i, j] = w[j, i] = 1 / (1 + max(degree[i], degree[j]))
    return w + np.diag(1 - w.sum(1))


def by_hand(w, rounds, mix, steps=1, x=None, present=None):
    """Lian et al.'s Algorithm 1, and with its lines exchanged."""
    x = np.zeros(len(w)) if x is None else x
    for r in range(rounds):
        here = np.ones(len(w), dtype=bool) if present is None else np.isin(np.arange(len(w)), present[r])
        w_r = np.where(np.outer(here, here), w, 0)
        w_r = w_r + np.diag(1 - w_r.sum(1))
        y = x.copy()
        for _ in range(steps):
            y = np.where(here, y - LR * CURVATURES * (y - OPTIMA), y)
        x = w_r @ x + (y - x) if mix == "before" else w_r @ y
    return x


def state(federation, name="x"):
    kept = federation.engine.host.store.state_dict()
    return np.array([float(kept[i]["personal"][name]) for i in sorted(kept)])


@pytest.mark.parametrize("mix", ["before", "after"])
@pytest.mark.parametrize(("graph", "pairs"), [(Star(), STAR), (Chain(), CHAIN)], ids=["star", "chain"])
@pytest.mark.parametrize("steps", [1, 3])
def test_rounds_are_the_papers(mix, graph, pairs, steps):
    federation = run(DecentralizedSGD(graph, mix), 7, points(), LocalTraining(steps=steps))
    expected = by_hand(matrix(5, pairs), 7, mix, steps)
    np.testing.assert_allclose(state(federation), expected, rtol=1e-12)
    other = by_hand(matrix(5, pairs), 7, "after" if mix == "before" else "before", steps)
    assert np.abs(other - expected).max() > 0.01


@pytest.mark.parametrize("mix", ["before", "after"])
def test_the_mean_moves_as_if_there_were_no_graph_and_clients_settle_around_the_optimum(mix):
    """W is doubly stochastic, so the mean of equal curvatures shrinks by 1 - gamma h; the rest solves a linear system."""
    start, mean = 4.0, OPTIMA.mean()
    clients = points(np.full(5, 2.0))
    federation = run(
        DecentralizedSGD(Chain(), mix), 9, clients, LocalTraining(steps=1), Quadratic(start=start)
    )
    assert state(federation).mean() == pytest.approx(mean + (1 - 2 * LR) ** 9 * (start - mean), rel=1e-12)

    federation = run(DecentralizedSGD(Chain(), mix), 600, clients, LocalTraining(steps=1))
    w, one = matrix(5, CHAIN), np.eye(5)
    pull = w if mix == "after" else one  # x = W x - pull gamma h (x - e)
    fixed = np.linalg.solve(one - w + 2 * LR * pull, 2 * LR * pull @ OPTIMA)
    np.testing.assert_allclose(state(federation), fixed, rtol=1e-10)
    assert fixed.mean() == pytest.approx(mean)
    assert np.ptp(fixed) > 0.1  # a constant step leaves them apart


def test_a_graph_that_changes_is_the_rounds_own():
    graph = TimeVarying([Star(), Chain()])
    found = run(DecentralizedSGD(graph, "before"), 4, points(), LocalTraining(steps=1))
    edges = [graph.edges(5, r) for r in range(4)]
    x = np.zeros(5)
    for r in range(4):
        pairs = {(i, j) for i, near in enumerate(edges[r]) for j in near if i < j}
        x = by_hand(matrix(5, pairs), 1, "before", x=x)
    assert edges[0] != edges[1]
    np.testing.assert_allclose(state(found), x, rtol=1e-12)


def test_the_complete_graph_is_fedavg_with_equal_weights():
    torch.manual_seed(0)
    module = Noisy(momentum=0.9)
    gossip = run(DecentralizedSGD(Complete()), 3, samples(), LocalTraining(epochs=2), module)
    average = run(FedAvg("uniform"), 3, samples(), LocalTraining(epochs=2), module)
    mean = average.model.state_dict()
    for client in range(3):
        own = gossip.engine.host.store.get(client)["personal"]
        for name, value in own.items():
            if value.is_floating_point():
                torch.testing.assert_close(value, mean[name], rtol=1e-5, atol=1e-6)
    assert any(n.endswith("running_var") for n in own)
    weighted = run(FedAvg("samples"), 3, samples(), LocalTraining(epochs=2), module).model.state_dict()
    assert not torch.allclose(own["net.0.weight"], weighted["net.0.weight"], atol=1e-4)


@pytest.mark.parametrize("mix", ["before", "after"])
def test_one_client_is_local_training(mix):
    torch.manual_seed(0)
    module, alone = Noisy(), [Samples(0, 12, population=1)]
    found, context = (
        run(algorithm, 3, alone, module=module) for algorithm in (DecentralizedSGD(Ring(), mix), Local())
    )
    ours, theirs = (f.engine.host.store.get(0)["personal"] for f in (found, context))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[n], t) for n, t in theirs.items())


@pytest.mark.parametrize("mix", ["before", "after"])
def test_clients_that_are_the_same_stay_the_same(mix):
    clients = [Point(i, [(2.0, 3.0)], 4) for i in range(4)]
    found, context = (
        run(a, 5, clients, LocalTraining(steps=2)) for a in (DecentralizedSGD(Grid(), mix), Local())
    )
    np.testing.assert_allclose(state(found), state(context), rtol=1e-14)


@pytest.mark.parametrize("mix", ["before", "after"])
def test_a_peer_that_left_gives_its_weight_to_the_others_own_models(mix):
    clients = points()
    here = list(Cohorts(clients, 3, 0, per_epoch=8))
    federation = run(DecentralizedSGD(Ring(), mix), 8, clients, LocalTraining(steps=1), size=3)
    ring = {(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)}
    expected = by_hand(matrix(5, ring), 8, mix, present=here)
    assert len({tuple(ids) for ids in here}) > 3
    np.testing.assert_allclose(state(federation), expected, rtol=1e-12)


class Broken(Point):
    def train_batches(self, seed):
        raise OSError("the disk is gone")


@pytest.mark.parametrize("mix", ["before", "after"])
def test_a_peer_that_fails_is_left_out(mix):
    clients = points()
    clients[2] = Broken(2, [(2.0, -2.0)], 5)
    with pytest.warns(UserWarning, match="client client2 failed and is left out: OSError: the disk is gone"):
        federation = run(DecentralizedSGD(Chain(), mix), 3, clients, LocalTraining(steps=1))
    found = {i: s["personal"]["x"].item() for i, s in federation.engine.host.store.state_dict().items()}
    expected = by_hand(matrix(5, CHAIN), 3, mix, present=[[0, 1, 3, 4]] * 3)
    assert found == pytest.approx({i: expected[i] for i in (0, 1, 3, 4)}, rel=1e-12)


class Diverging(Quadratic):
    """Becomes NaN at the client whose optimum is 5, in its second round."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        bad = float(batch[1][0]) == 5 and float(self.x.detach()) != 0
        return loss * float("nan") if bad else loss


@pytest.mark.parametrize("mix", ["before", "after"])
def test_a_peer_that_diverges_spoils_nobody_and_stays_where_it_was(mix):
    with pytest.warns(UserWarning, match="not finite"):
        federation = run(DecentralizedSGD(Ring(), mix), 4, points(), LocalTraining(steps=1), Diverging())
    assert np.isfinite(state(federation)).all()
    assert federation.records[3].error and not federation.records[2].error


class Scaled(Samples):
    """Its samples are a hundred times larger in every second round."""

    rounds = 0

    def train_batches(self, seed):
        self.rounds += 1
        for x, y in super().train_batches(seed):
            yield x * (100.0 if self.id == 1 and self.rounds % 2 else 1.0), y


@pytest.mark.parametrize("mix", ["before", "after"])
def test_statistics_are_mixed_as_they_are_after_training(mix):
    """Their own change on top of a mixture of what was before would make a variance negative."""
    torch.manual_seed(0)
    module = Noisy()
    module.net[1].momentum = 1.0
    clients = [Scaled(i, 8, 4) for i in range(4)]
    federation = run(DecentralizedSGD(Ring(), mix), 2, clients, module=module)
    variances = [federation.engine.host.store.get(i)["personal"]["net.1.running_var"] for i in range(4)]
    assert all((v > 0).all() for v in variances)

    context = Federation(
        module, Local()
    )  # the second round's statistics of clients that start from the first one's end
    trainer(1).fit(context, loader([Scaled(i, 8, 4) for i in range(4)]))
    alone = np.stack(
        [context.engine.host.store.get(i)["personal"]["net.1.running_var"].numpy() for i in range(4)]
    )
    once = run(DecentralizedSGD(Ring(), mix), 1, [Scaled(i, 8, 4) for i in range(4)], module=module)
    mixed = np.stack(
        [once.engine.host.store.get(i)["personal"]["net.1.running_var"].numpy() for i in range(4)]
    )
    ring = matrix(4, {(0, 1), (1, 2), (2, 3), (0, 3)})
    np.testing.assert_allclose(mixed, ring @ alone, rtol=1e-6)


class Frozen(Quadratic):
    """Has tensors that are no business of anybody else."""

    def __init__(self):
        super().__init__(size=3)
        self.fixed = nn.Parameter(torch.full((100,), 0.1), requires_grad=False)
        self.register_buffer("passing", torch.full((50,), 0.1), persistent=False)
        self.register_buffer("count", torch.zeros(5, dtype=torch.long))
        self.register_buffer("mean", torch.zeros(2))


@pytest.mark.parametrize("mix", ["before", "after"])
def test_what_travels_is_what_trains_and_floating_buffers_along_each_edge(mix):
    clients = [Point(i, [(1, [0.0, 1.0, i])], 5) for i in range(5)]
    module = Frozen()
    federation = run(DecentralizedSGD(Star(), mix), 2, clients, LocalTraining(steps=1), module)
    weights = 3 * 8 + 2 * 4
    edges = 8  # four neighbors of the center, one of each other
    assert federation.bytes_up == 2 * 5 * (weights + 8)  # and the number of steps
    assert federation.bytes_down == 2 * (
        5 * (8 + 8) + 5 * 8 + edges * (weights + 8 + 8)
    )  # steps and round; round; sender, weight
    assert all(
        torch.equal(federation.engine.host.store.get(i)["personal"]["fixed"], module.fixed) for i in range(5)
    )


def test_nothing_but_the_model_is_kept():
    federation = run(DecentralizedSGD(Ring(), "before"), 2, points(), LocalTraining(steps=1))
    assert all(kept.keys() == {"personal"} for kept in federation.engine.host.store.state_dict().values())
    assert federation.algorithm.state == {}


@pytest.mark.parametrize("mix", ["before", "after"])
def test_same_seed_gives_same_bits_in_any_order_of_clients(mix):
    torch.manual_seed(0)
    module = Noisy()
    one, two = (
        run(DecentralizedSGD(Ring(), mix), 3, clients, module=module)
        for clients in (samples(), samples()[::-1])
    )
    for i in range(3):
        a, b = (f.engine.host.store.get(i)["personal"] for f in (one, two))
        assert all(torch.equal(a[n], b[n]) for n in a)


def test_one_way_edges_are_refused_before_anybody_trains():
    federation = Federation(Quadratic(), DecentralizedSGD(Ring(directed=True)))
    with pytest.raises(ValueError, match="client 0 learns from 1, but 1 not from 0: Metropolis weights need"):
        trainer(1).fit(federation, loader(points()))
    assert len(federation.engine.host.store) == 0


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match=r"mix='during' must be 'before' or 'after'\."):
        DecentralizedSGD(Ring(), "during")


def test_architectures_must_be_the_same():
    one, other = (Classifier(nn.Linear(3, c), num_classes=c) for c in (2, 3))
    with pytest.raises(ValueError, match="DecentralizedSGD is for clients of one architecture"):
        Federation(one, DecentralizedSGD(Ring()), other_models=[other])
