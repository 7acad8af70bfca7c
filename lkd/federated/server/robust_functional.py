"""Aggregation that a few wrong or hostile clients cannot steer: functions on the matrix of updates.

A row is one client's update, flattened. No rule weights by the number of samples: a client reports that
number itself, and one that may lie about its update may also claim any weight. Rows should be finite.

The papers' guarantees are for honest updates that are alike, as those of clients with i.i.d. data. They bound
the distance of the result from the honest mean by how much the honest updates differ. With unlike data these
differ much: a median then loses accuracy to four liars of ten that it would not lose to two (docs/results.md
has the figures). `lkd.federated.server.update_mixing` is for such clients.

All results have the updates' type; sums and distances are taken in float64.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lkd.checks import expect

CHUNK = 1 << 22  # numbers processed at once: 32 MiB in float64, whatever the size of the model


@torch.no_grad()
def coordinate_median(updates: Tensor) -> Tensor:
    """Computes the median of every coordinate; for an even number of clients the mean of the middle two.

    Yin et al., "Byzantine-Robust Distributed Learning", ICML 2018, arXiv:1803.01498, Definition 1.
    Holds while fewer than half of the clients are wrong and the honest ones have i.i.d. data. The nearer to
    half, and the more their data differ, the slower is the training.

    Args:
        updates: `(K, P)`, one row per client.

    Returns:
        `(P,)`.

    Example:
        >>> coordinate_median(torch.tensor([[1.0, 5.0], [2.0, 6.0], [1e9, -1e9]]))
        tensor([2., 5.])
    """
    return _middle(updates, (len(updates) - 1) // 2)


@torch.no_grad()
def trimmed_mean(updates: Tensor, trim: float = 0.2) -> Tensor:
    """Averages every coordinate without its `floor(trim K)` smallest and as many largest values.

    Yin et al., 2018, arXiv:1803.01498, Definition 2. Holds while at most that many clients are wrong and the
    honest ones have i.i.d. data; with fewer than `1 / trim` clients nothing is cut, and it is the plain mean.

    Args:
        updates: `(K, P)`, one row per client.
        trim: Share cut at each end, at least 0 and below a half.

    Returns:
        `(P,)`.

    Raises:
        ValueError: If `trim` is out of its range.

    Example:
        >>> trimmed_mean(torch.tensor([[1.0], [2.0], [3.0], [4.0], [1e9]]), trim=0.2)
        tensor([3.])
    """
    expect(trim=trim, ge=0, lt=0.5, why="it is the share cut at each end")
    cut = int(trim * check_updates(updates) + 1e-9)  # .29 * 100 is 28.999... in binary
    return _middle(updates, min(cut, (len(updates) - 1) // 2))


@torch.no_grad()
def krum(updates: Tensor, byzantine: int, keep: int = 1) -> Tensor:
    """Chooses the update with the closest neighbors (Krum), or averages the `keep` best (Multi-Krum).

    A client's score is the sum of its squared distances to the `K - byzantine - 2` nearest others. The lowest
    score wins; among equal scores the first row. Blanchard et al., "Machine Learning with Adversaries:
    Byzantine Tolerant Gradient Descent", NeurIPS 2017, arXiv:1703.02757, Section 4 and, for Multi-Krum,
    Section 7. Its guarantee, too, is for i.i.d. data: if clients differ, Krum learns from one client's data
    alone, and both leave out honest unusual clients.

    Args:
        updates: `(K, P)`, one row per client.
        byzantine: f, number of clients that may be wrong.
        keep: m, number of updates that are averaged. Default 1.

    Returns:
        `(P,)`.

    Raises:
        ValueError: If the guarantee `K > 2 byzantine + 2` does not hold, or `keep` is not in
            `1..K - byzantine`.

    Example:
        >>> krum(torch.tensor([[1.0], [1.1], [1.3], [0.8], [1e9]]), byzantine=1)
        tensor([1.1000])
    """
    clients = check_updates(updates)
    if byzantine < 0 or clients < 2 * byzantine + 3:
        raise ValueError(
            f"byzantine={byzantine} needs at least {2 * max(byzantine, 0) + 3} clients that reply "
            f"(and must not be negative), but there are {clients}."
        )
    if not 1 <= keep <= clients - byzantine:
        raise ValueError(
            f"keep={keep} must be from 1 to {clients - byzantine}, the clients that may be right."
        )
    nearest = squared_distances(updates).sort(dim=1).values[:, 1 : clients - byzantine - 1]
    best = nearest.sum(1).sort(stable=True).indices[:keep]
    return updates[best[0]].clone() if keep == 1 else _middle(updates[best.sort().values], 0)


@torch.no_grad()
def geometric_median(
    updates: Tensor, iterations: int = 100, tolerance: float = 1e-6, smoothing: float = 1e-6
) -> Tensor:
    """Finds the point with the least sum of distances to all updates, by smoothed Weiszfeld iterations.

    Every iteration weights each update by `1 / max(smoothing, distance)`, starting from the mean. Pillutla,
    Kakade, Harchaoui, "Robust Aggregation for Federated Learning", IEEE TSP 2022, arXiv:1912.13445, Algorithm
    2; the clients count alike here. Holds while fewer than half of the clients are wrong and the honest ones
    have i.i.d. data.

    Args:
        updates: `(K, P)`, one row per client.
        iterations: Largest number of iterations; the paper finds 3 enough in training. Default 100.
        tolerance: Ends when the mean of the unit vectors to all updates, 0 at the solution, is not longer. It
            has no unit, so far-off outliers do not end the iteration early. Default 1e-6.
        smoothing: nu, the distance below which an update pulls less; in units of the updates. Default 1e-6.

    Returns:
        `(P,)`.

    Raises:
        ValueError: If a number is not above 0.

    Example:
        >>> geometric_median(torch.tensor([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1e9]])).round(decimals=2)
        tensor([0.0000, 0.5800])
    """
    clients = check_updates(updates)
    expect(iterations=iterations, tolerance=tolerance, smoothing=smoothing, gt=0)
    weights = torch.full((clients,), 1 / clients, dtype=torch.float64, device=updates.device)
    point = _weighted(updates, weights)
    for _ in range(iterations):
        pull = 1 / _distances(updates, point).clamp(min=smoothing)
        previous, point = point, _weighted(updates, pull / pull.sum())
        if (point - previous).norm() * pull.mean() <= tolerance:
            break
    return point.to(updates.dtype)


@torch.no_grad()
def clip_norms(updates: Tensor, max_norm: float | None = None) -> Tensor:
    """Scales down every update that is longer than `max_norm`.

    Sun et al., "Can You Really Backdoor Federated Learning?", 2019, arXiv:1911.07963, Section 4.

    Args:
        updates: `(K, P)`, one row per client.
        max_norm: Largest length allowed. Default: the median of the norms, which follows the training.

    Returns:
        `(K, P)`, new.

    Raises:
        ValueError: If `max_norm` is not above 0.

    Example:
        >>> clip_norms(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), max_norm=2.5)
        tensor([[1.5000, 2.0000],
                [0.0000, 1.0000]])
    """
    check_updates(updates)
    expect(max_norm=max_norm, gt=0, none="the median of the norms")
    norms = _distances(updates, None)
    limit = norms.quantile(0.5) if max_norm is None else norms.new_tensor(max_norm)
    factors = torch.where(norms > limit, limit / norms, 1.0)
    clipped = torch.empty_like(updates)
    for part in columns(updates):
        clipped[:, part] = (updates[:, part].double() * factors[:, None]).to(updates.dtype)
    return clipped


@torch.no_grad()
def squared_distances(updates: Tensor) -> Tensor:
    """Computes squared distances `(K, K)`, float64, of all pairs of rows of `updates (K, P)`.

    They are computed from differences, not from `|a|² + |b|² - 2ab`, which loses a small distance between
    long updates.
    """
    clients = check_updates(updates)
    pairs = updates.new_zeros(clients * (clients - 1) // 2, dtype=torch.float64)
    for part in columns(updates):
        pairs += F.pdist(updates[:, part].double().contiguous()) ** 2
    distances = pairs.new_zeros(clients, clients)
    row, column = torch.triu_indices(clients, clients, offset=1, device=updates.device)
    distances[row, column] = distances[column, row] = pairs
    return distances


def check_updates(updates: Tensor) -> int:
    """Checks the shape of updates, and returns the number of rows K.

    Raises:
        ValueError: If they are not a matrix with a row for each client.
    """
    if updates.ndim != 2 or not len(updates):
        raise ValueError(
            f"updates of shape {tuple(updates.shape)} must be (K, P): one row for each of K >= 1."
        )
    return len(updates)


def columns(updates: Tensor) -> Iterator[slice]:
    """Yields slices of columns with at most CHUNK numbers each."""
    width = max(1, CHUNK // len(updates))
    return (slice(start, start + width) for start in range(0, updates.shape[1], width))


def _middle(updates: Tensor, cut: int) -> Tensor:
    """Averages every coordinate without its `cut` smallest and largest values."""
    clients = check_updates(updates)
    result = updates.new_empty(updates.shape[1])
    for part in columns(updates):
        values = updates[:, part].double()
        if cut and values.device.type == "cpu":  # NumPy sorts along rows seven times as fast as torch
            values = torch.from_numpy(np.sort(values.numpy(), axis=0))
        elif cut:
            values = values.sort(dim=0).values
        result[part] = values[cut : clients - cut].mean(0).to(updates.dtype)
    return result


def _distances(updates: Tensor, point: Tensor | None) -> Tensor:
    """Computes Euclidean distances `(K,)`, float64, of all rows to a point `(P,)`, or to 0."""
    squares = updates.new_zeros(len(updates), dtype=torch.float64)
    for part in columns(updates):
        values = updates[:, part].double()
        squares += ((values if point is None else values - point[part]) ** 2).sum(1)
    return squares.sqrt()


def _weighted(updates: Tensor, weights: Tensor) -> Tensor:
    """Sums the rows times `weights (K,)`, to `(P,)`, float64."""
    return torch.cat([weights @ updates[:, part].double() for part in columns(updates)])
