"""Graphs drawn by chance: what is sure of every draw, what is true on average, and where the randomness comes from."""

import random

import networkx as nx
import numpy as np
import pytest
import torch
from scipy import stats

from lkd.federated.topology import ErdosRenyi, RandomNeighbors, Ring, SmallWorld
from lkd.federated.topology import random_graphs as module


def as_graph(edges):
    return nx.Graph((k, j) for k, row in enumerate(edges) for j in row)


def undirected(edges):
    return all(k in edges[j] for k, row in enumerate(edges) for j in row)


@pytest.mark.parametrize("make", [
    lambda seed: ErdosRenyi(0.3, seed), lambda seed: SmallWorld(4, 0.5, seed),
    lambda seed: RandomNeighbors(3, seed), lambda seed: RandomNeighbors(2, seed, mutual=True),
    lambda seed: RandomNeighbors(7, seed, mutual=True),
])  # fmt: skip
def test_randomness_is_the_seeds_alone(make):
    first = make(5).edges(10, 2)
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    again = make(5)
    for round in (7, 0, 1):  # what was drawn before does not matter
        again.edges(10, round)
    assert again.edges(10, 2) == first
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert len({str(make(seed).edges(10, 2)) for seed in range(20)}) > 15


def test_erdos_renyi_has_each_edge_with_chance_p():
    """Where every graph is fit, none is preferred: the number of edges is binomial, and no pair is favored."""
    nodes, p, draws = 12, 0.6, 400
    graphs = [ErdosRenyi(p, seed).edges(nodes) for seed in range(draws)]
    pairs = nodes * (nodes - 1) // 2
    counts = np.array([sum(map(len, edges)) // 2 for edges in graphs])
    assert abs(counts.mean() - pairs * p) < 4 * np.sqrt(pairs * p * (1 - p) / draws)
    assert counts.var() == pytest.approx(pairs * p * (1 - p), rel=0.3)
    often = np.array([sum(j in edges[k] for edges in graphs) for k in range(nodes) for j in range(k)])
    assert stats.chisquare(often).pvalue > 1e-4


@pytest.mark.parametrize("connected", [True, False])
def test_erdos_renyi_is_fit_for_use(connected):
    """At this p most draws are not connected, so without a second draw this fails."""
    whole = 0
    for seed in range(60):
        edges = ErdosRenyi(0.15, seed, connected).edges(12)
        assert undirected(edges) and all(edges)
        whole += nx.is_connected(as_graph(edges))
    assert whole == 60 if connected else 0 < whole < 60


def test_erdos_renyi_may_change_with_the_rounds():
    drawn = ErdosRenyi(0.4, every=3)
    rounds = [drawn.edges(9, round) for round in range(12)]
    assert all(rounds[i] == rounds[i - i % 3] for i in range(12))
    assert len({str(rounds[i]) for i in range(0, 12, 3)}) == 4
    assert drawn.varies and not ErdosRenyi(0.4).varies
    assert ErdosRenyi(0.4).edges(9, 100) == rounds[0]


def test_small_world_without_rewiring_is_a_ring():
    for k in (2, 4, 6):
        assert SmallWorld(k, 0.0).edges(9) == Ring(k // 2).edges(9)


@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
def test_small_world_rewires_but_loses_nothing(p):
    nodes, k = 20, 4
    ring = {frozenset((i, j)) for i, row in enumerate(Ring(k // 2).edges(nodes)) for j in row}
    kept = []
    for seed in range(40):
        edges = SmallWorld(k, p, seed).edges(nodes)
        assert undirected(edges) and nx.is_connected(as_graph(edges))
        found = {frozenset((i, j)) for i, row in enumerate(edges) for j in row}
        assert len(found) == nodes * k // 2
        assert min(map(len, edges)) >= k // 2  # each keeps the near end of k / 2 edges
        kept.append(len(found & ring) / len(ring))
    # a rewired edge may by chance lead to where another one of the ring was
    assert 1 - p - 0.05 < np.mean(kept) < 1 - p + 0.15 * p + 0.05


@pytest.mark.parametrize(("nodes", "degree"), [(9, 1), (9, 4), (9, 8), (2, 1)])
def test_random_neighbors(nodes, degree):
    edges = RandomNeighbors(degree).edges(nodes, 3)
    assert [len(row) for row in edges] == [degree] * nodes
    assert not any(k in row for k, row in enumerate(edges))


def test_all_neighbors_are_equally_likely():
    drawn = RandomNeighbors(2, seed=1)
    counts = np.zeros((7, 7))
    for round in range(700):
        for k, row in enumerate(drawn.edges(7, round)):
            counts[k, row] += 1
    assert not counts.diagonal().any()
    for k in range(7):
        assert stats.chisquare(np.delete(counts[k], k)).pvalue > 1e-4


@pytest.mark.parametrize(("nodes", "degree"), [(10, 1), (9, 2), (9, 6), (10, 7), (8, 7), (40, 37)])
def test_mutual_neighbors(nodes, degree):
    drawn = RandomNeighbors(degree, mutual=True)
    rounds = [drawn.edges(nodes, round) for round in range(3)]
    for edges in rounds:
        assert undirected(edges) and [len(row) for row in edges] == [degree] * nodes
    assert degree == nodes - 1 or rounds[0] != rounds[1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ErdosRenyi(0.0), r"p=0\.0 must be in \(0, 1\]"),
        (lambda: ErdosRenyi(1.5), r"p=1\.5 must be in \(0, 1\]"),
        (lambda: ErdosRenyi(float("nan")), "p=nan"),
        (lambda: ErdosRenyi(seed=-1), "seed=-1"),
        (lambda: ErdosRenyi(every=0), "every=0"),
        (lambda: SmallWorld(3), "k=3 must be even"),
        (lambda: SmallWorld(0), "k=0 must be even and 2 or more"),
        (lambda: SmallWorld(p=-0.1), r"p=-0\.1 must be in \[0, 1\]"),
        (lambda: SmallWorld(seed=-1), "seed=-1"),
        (lambda: RandomNeighbors(0), "degree=0"),
        (lambda: RandomNeighbors(seed=-1), "seed=-1"),
        (lambda: SmallWorld(4).edges(4), r"SmallWorld\(k=4.*below the number of clients, 4"),
        (lambda: RandomNeighbors(9).edges(9), "only 8 others"),
        (lambda: RandomNeighbors(3, mutual=True).edges(9), "3 times 9, must be even"),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_hopeless_draws_end(monkeypatch):
    monkeypatch.setattr(module, "DRAWS", 20)
    with pytest.raises(
        ValueError, match=r"none of 20 graphs of 9 clients is connected.*larger p, above 0\.24"
    ):
        ErdosRenyi(0.01).edges(9)
    with pytest.raises(ValueError, match="without an isolated client"):
        ErdosRenyi(0.01, connected=False).edges(9)
    monkeypatch.setattr(nx, "is_connected", lambda graph: False)
    with pytest.raises(ValueError, match="none of 20 graphs of 200 clients is connected; take a larger k"):
        SmallWorld(2, 1.0).edges(200)
