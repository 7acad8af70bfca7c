"""Metropolis weights, their eigenvalues in closed form, what averaging does, and distances by powers of a matrix."""

import math

import numpy as np
import pytest
import torch

from lkd.federated.topology import (
    Chain,
    Complete,
    ErdosRenyi,
    Grid,
    Hierarchical,
    Islands,
    RandomNeighbors,
    Ring,
    Star,
    hops,
    metropolis_weights,
    reach,
    spectral_gap,
)

UNDIRECTED = [
    Complete(),
    Ring(),
    Ring(2),
    Chain(),
    Star(2),
    Grid(),
    Islands(3, 1),
    Islands(3),
    Hierarchical(),
    ErdosRenyi(0.4),
]
undirected = pytest.mark.parametrize("topology", UNDIRECTED, ids=repr)
sizes = pytest.mark.parametrize("nodes", [4, 5, 9, 10])


@undirected
def test_weights_are_those_of_the_paper(topology):
    edges = topology.edges(9)
    weights = metropolis_weights(edges)
    assert weights.shape == (9, 9) and weights.dtype == torch.float64
    for i in range(9):
        for j in range(9):
            if j in edges[i]:
                assert weights[i, j] == 1 / (1 + max(len(edges[i]), len(edges[j])))
            elif i != j:
                assert weights[i, j] == 0
        others = sum(1 / (1 + max(len(edges[i]), len(edges[j]))) for j in edges[i])
        assert weights[i, i].item() == pytest.approx(1 - others, abs=1e-15)


@undirected
def test_weights_are_symmetric_and_doubly_stochastic(topology):
    weights = metropolis_weights(topology.edges(9))
    assert torch.equal(weights, weights.T)
    ones = torch.ones(9, dtype=torch.float64)
    torch.testing.assert_close(weights.sum(0), ones, rtol=0, atol=1e-15)
    torch.testing.assert_close(weights.sum(1), ones, rtol=0, atol=1e-15)
    assert (weights.diagonal() > 0).all() and (weights >= 0).all()


@sizes
def test_gap_of_a_ring(nodes):
    """A circulant matrix: eigenvalues (1 + 2 cos(2 pi k / n)) / 3."""
    others = [abs(1 + 2 * math.cos(2 * math.pi * k / nodes)) / 3 for k in range(1, nodes)]
    assert spectral_gap(metropolis_weights(Ring().edges(nodes))) == pytest.approx(1 - max(others), abs=1e-12)


@sizes
def test_gap_of_a_complete_graph(nodes):
    weights = metropolis_weights(Complete().edges(nodes))
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / nodes))
    assert spectral_gap(weights) == pytest.approx(1, abs=1e-12)


@sizes
def test_gap_of_a_star(nodes):
    """Eigenvalues 1, 0 and n - 2 times 1 - 1/n (two leaves with opposite values)."""
    assert spectral_gap(metropolis_weights(Star().edges(nodes))) == pytest.approx(1 / nodes, abs=1e-12)


def test_gap_of_parts_that_never_meet_and_of_one_client():
    assert spectral_gap(metropolis_weights(Islands(3).edges(9))) == pytest.approx(0, abs=1e-12)
    assert spectral_gap(metropolis_weights([[]])) == 1


def test_gap_sees_a_negative_eigenvalue():
    assert spectral_gap(torch.tensor([[0.1, 0.9], [0.9, 0.1]])) == pytest.approx(0.2, abs=1e-6)


@undirected
def test_averaging_converges_to_the_mean_at_the_rate_of_the_gap(topology):
    edges = topology.edges(9)
    weights = metropolis_weights(edges)
    x = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean, factor = x.mean(0), 1 - spectral_gap(weights)
    before = (x - mean).norm()
    for _ in range(30):
        x = weights @ x
        after = (x - mean).norm()
        assert after <= factor * before + 1e-12  # never slower
        before = after
    torch.testing.assert_close(x.mean(0), mean)


def test_the_rate_of_a_ring_is_its_second_eigenvalue():
    weights = metropolis_weights(Ring().edges(9))
    x = torch.arange(9, dtype=torch.float64) ** 2
    distances = []
    for _ in range(200):
        x = weights @ x
        distances.append((x - x.mean()).norm().item())
    factor = (1 + 2 * math.cos(2 * math.pi / 9)) / 3
    assert distances[80] / distances[79] == pytest.approx(
        factor, abs=1e-6
    )  # and, in the long run, not faster
    assert distances[199] < 1e-6 * distances[0]


def test_changing_graphs_average_together_what_each_alone_does_not():
    """Perfect matchings: no round connects everybody."""
    drawn = RandomNeighbors(1, mutual=True)
    x = torch.arange(8, dtype=torch.float64)
    for round in range(60):
        weights = metropolis_weights(drawn.edges(8, round))
        assert spectral_gap(weights) == pytest.approx(0, abs=1e-12)
        x = weights @ x
    torch.testing.assert_close(x, torch.full_like(x, 3.5))


@pytest.mark.parametrize("topology", [Ring(directed=True), RandomNeighbors(2)], ids=repr)
def test_directed_graphs_have_no_metropolis_weights(topology):
    with pytest.raises(ValueError, match=r"client \d learns from \d, but \d not from \d.*undirected"):
        metropolis_weights(topology.edges(9))


@pytest.mark.parametrize(
    "wrong", [torch.eye(3)[:2], torch.ones(2, 2), torch.tensor([[0.5, 0.5], [0.1, 0.9]])]
)
def test_other_matrices_have_no_gap(wrong):
    with pytest.raises(ValueError, match="symmetric"):
        spectral_gap(wrong)


@pytest.mark.parametrize("topology", [*UNDIRECTED, Ring(directed=True), RandomNeighbors(1, seed=3)], ids=repr)
def test_hops_by_powers_of_the_adjacency_matrix(topology):
    edges = topology.edges(9)
    one = np.eye(9, dtype=int)
    for k, row in enumerate(edges):
        one[k, row] = 1
    expected, within, counts = np.full((9, 9), -1), np.eye(9, dtype=int), []
    for steps in range(9):
        expected[(within > 0) & (expected < 0)] = steps
        counts.append((within > 0).sum(1).tolist())
        within = within @ one
    assert hops(edges) == expected.tolist()
    for steps, count in enumerate(counts):
        assert reach(edges, steps) == count


def test_hops_follow_the_direction_of_learning():
    """0 learns from 1, 1 from 2: what 2 knows comes to 0, what 0 knows to nobody."""
    assert hops([[1], [2], []])[0] == [0, 1, 2]
    assert hops([[1], [2], []])[2] == [-1, -1, 0]
    assert reach([[1], [2], []], 2) == [3, 2, 1]


def test_reach_in_closed_form():
    assert [reach(Ring().edges(9), m)[4] for m in range(6)] == [1, 3, 5, 7, 9, 9]
    assert [reach(Ring(directed=True).edges(9), m)[4] for m in range(3)] == [1, 2, 3]
    assert reach(Complete().edges(9), 1) == [9] * 9
    assert reach(Star().edges(9), 1) == [9] + [2] * 8
    assert reach(Islands(3).edges(9), 8) == [3] * 9


def test_reach_backwards():
    with pytest.raises(ValueError, match="hops=-1"):
        reach([[1], [0]], -1)
