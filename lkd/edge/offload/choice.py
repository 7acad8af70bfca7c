"""What is sent, chosen by scores: the best share of a split, or all above a threshold."""

import numpy as np

from lkd.edge.nms import Array

CANDIDATES = 200
"""Most thresholds that are tried."""


def best(scores: Array, costs: Array, share: float, seed: int = 0) -> Array:
    """Returns the units with the highest scores, as many as their costs allow.

    Args:
        scores: `(N, U)`.
        costs: `(N, U)`, such as ones or bytes.
        share: Largest share of the sum of all costs.
        seed: Seed of the order of equal scores.

    Returns:
        `(N, U)` bool.

    Example:
        >>> best(np.array([[0.1], [0.9], [0.5]]), np.ones((3, 1)), 0.67)[:, 0].tolist()
        [False, True, True]
    """
    flat, cost = scores.ravel(), costs.ravel().astype(np.float64)
    order = np.lexsort((np.random.default_rng(seed).random(len(flat)), -flat))
    chosen = np.zeros(len(flat), bool)
    chosen[order[np.cumsum(cost[order]) <= share * cost.sum() * (1 + 1e-9)]] = True
    return chosen.reshape(scores.shape)


def thresholds(scores: Array) -> Array:
    """Returns thresholds `(K,)` from the highest score down; with each, at least one more unit is sent."""
    found = np.unique(scores)[::-1]
    if len(found) > CANDIDATES:
        found = found[np.linspace(0, len(found) - 1, CANDIDATES).round().astype(int)]
    return found
