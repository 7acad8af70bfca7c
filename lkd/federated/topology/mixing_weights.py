"""Weights by which neighbors average: x <- W x."""

import torch
from torch import Tensor

from lkd.federated.topology.base import Edges


def metropolis_weights(edges: Edges) -> Tensor:
    """Computes symmetric weights that each client can derive from its own and its neighbors' degrees.

    `W_ij = 1 / (1 + max(d_i, d_j))` for an edge i - j, `W_ii = 1 - sum_j W_ij`, else 0, where `d_i` is the
    number of neighbors. Rows and columns sum to 1, and all `W_ii` are above 0. So repeated averaging
    converges to the mean of all clients on a connected graph, and on changing graphs that are connected
    together. Xiao, Boyd and Lall, "A Scheme for Robust Distributed Sensor Fusion Based on Average Consensus",
    IPSN 2005.

    Args:
        edges: Neighbors of every client, as of `Topology.edges`; undirected.

    Returns:
        (K, K), float64, on the CPU.

    Raises:
        ValueError: If an edge goes one way only.

    Example:
        >>> metropolis_weights([[1], [0, 2], [1]])
        tensor([[0.6667, 0.3333, 0.0000],
                [0.3333, 0.3333, 0.3333],
                [0.0000, 0.3333, 0.6667]], dtype=torch.float64)
    """
    weights = torch.zeros(len(edges), len(edges), dtype=torch.float64)
    for i, neighbors in enumerate(edges):
        for j in neighbors:
            if i not in edges[j]:
                raise ValueError(
                    f"client {i} learns from {j}, but {j} not from {i}: Metropolis weights need an undirected graph, such as "
                    "Ring() or RandomNeighbors(mutual=True)."
                )
            weights[i, j] = 1 / (1 + max(len(neighbors), len(edges[j])))
    return weights + torch.diag(1 - weights.sum(1))


def spectral_gap(weights: Tensor) -> float:
    """Computes how fast averaging converges: `x <- W x` shrinks the distance to the mean by 1 - gap or more.

    The gap is `1 - max(|l_2|, |l_K|)` of the eigenvalues `1 = l_1 >= l_2 >= ... >= l_K`: 1 if one step gives
    the mean, 0 if there are parts that never exchange anything. `1 - gap` is the convergence factor, the
    spectral radius of `W - 1 1^T / K`, of Xiao and Boyd, "Fast linear iterations for distributed averaging",
    Systems & Control Letters 53, 2004.

    Args:
        weights: (K, K), symmetric, rows summing to 1, as of `metropolis_weights`.

    Raises:
        ValueError: If they are not.

    Example:
        >>> from lkd.federated.topology import Complete, Ring
        >>> [round(spectral_gap(metropolis_weights(t.edges(8))), 3) for t in (Complete(), Ring())]
        [1.0, 0.195]
    """
    weights = weights.double()
    square = weights.ndim == 2 and len(weights) == weights.shape[-1]
    ones = torch.ones(len(weights), dtype=weights.dtype, device=weights.device)
    if not square or not torch.allclose(weights, weights.T) or not torch.allclose(weights.sum(1), ones):
        raise ValueError(
            f"weights of shape {tuple(weights.shape)} must be symmetric (K, K) with rows that sum to 1."
        )
    return 1 - float(torch.linalg.eigvalsh(weights - 1 / len(weights)).abs().max())
