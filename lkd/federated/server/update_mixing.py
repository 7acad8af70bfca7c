"""Mixing of updates before a robust rule: it brings honest updates of unlike clients closer together.

A rule that trusts the middle mistakes an honest client with unusual data for a liar, and averages too few of
the others. Both functions here average several clients per row, so fewer rows are unusual.
"""

import numpy as np
import torch
from torch import Tensor

from lkd.checks import expect
from lkd.federated.server.robust_functional import check_updates, columns, squared_distances


@torch.no_grad()
def bucketing(updates: Tensor, size: int = 2, seed: int = 0) -> Tensor:
    """Averages random buckets of `size` clients; the last bucket may have fewer.

    Karimireddy, He, Jaggi, "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing", ICLR 2022,
    arXiv:2006.09365, Algorithm 1. A liar spoils its whole bucket: as many rows may be wrong as clients were,
    but there are `size` times fewer rows. With a rule that bears half of its rows to be wrong it holds for
    fewer than `1 / (2 size)` of the clients.

    Args:
        updates: `(K, P)`, one row per client.
        size: s, clients per bucket. At 1 nothing is mixed or drawn.
        seed: Seed of the draw.

    Returns:
        `(ceil(K / size), P)`.

    Raises:
        ValueError: If `size` is below 1.

    Example:
        >>> bucketing(torch.tensor([[1.0], [2.0], [3.0], [4.0]]), size=2).mean(0)
        tensor([2.5000])
    """
    clients = check_updates(updates)
    expect(size=size, ge=1, why="the clients in a bucket")
    if size == 1:
        return updates
    order = torch.from_numpy(np.random.default_rng(seed).permutation(clients))
    buckets = order.to(updates.device).split(size)
    mixed = updates.new_empty(len(buckets), updates.shape[1])
    for part in columns(updates):
        values = updates[:, part].double()
        mixed[:, part] = torch.stack([values[bucket].mean(0) for bucket in buckets]).to(updates.dtype)
    return mixed


@torch.no_grad()
def mix_nearest(updates: Tensor, byzantine: int) -> Tensor:
    """Replaces every update by the mean of the `K - byzantine` nearest updates, itself included.

    Nearest-neighbor mixing: Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan, "Fixing by Mixing: A
    Recipe for Optimal Byzantine ML under Heterogeneity", AISTATS 2023, arXiv:2302.01772, Algorithm 2. Holds
    for fewer than half of the clients, up to an error that grows with how much the honest clients differ,
    which no rule can avoid.

    Args:
        updates: `(K, P)`, one row per client.
        byzantine: f, number of clients that may be wrong. At 0 all rows become the mean.

    Returns:
        `(K, P)`.

    Raises:
        ValueError: If `byzantine` is not from 0 to less than half of the clients.

    Example:
        >>> mix_nearest(torch.tensor([[1.0], [2.0], [9.0]]), byzantine=1)
        tensor([[1.5000],
                [1.5000],
                [5.5000]])
    """
    clients = check_updates(updates)
    if byzantine < 0 or clients < 2 * byzantine + 1:
        raise ValueError(
            f"byzantine={byzantine} needs at least {2 * max(byzantine, 0) + 1} clients that reply (and must not be negative), but "
            f"there are {clients}."
        )
    nearest = squared_distances(updates).sort(dim=1, stable=True).indices[:, : clients - byzantine]
    chosen = torch.zeros(clients, clients, dtype=torch.float64, device=updates.device)
    chosen.scatter_(1, nearest, 1.0)
    mixed = torch.empty_like(updates)
    for part in columns(updates):
        mixed[:, part] = (chosen @ updates[:, part].double() / (clients - byzantine)).to(updates.dtype)
    return mixed
