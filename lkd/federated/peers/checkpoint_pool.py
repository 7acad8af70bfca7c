"""Pools of neighbors' checkpoints that each client learns from."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lkd.federated.protocol.tensors import Tensors

REFRESH, PICK = 0x706F6F6C, 0x7069636B  # keep these draws apart from others of a round and client


def refresh(
    pool: Tensor | None,
    edges: Sequence[Sequence[int]],
    present: Sequence[int],
    size: int | None,
    round: int,
    every: int,
    seed: int,
) -> Tensor:
    """Updates all clients' pools for this round; an entry is a neighbor and the round of its checkpoint.

    A pool is first filled with present checkpoints of random neighbors. Then, every `every` rounds, a random
    entry is replaced by the present checkpoint of a random neighbor. An entry whose owner is no longer a
    neighbor is removed.

    Args:
        pool: Pools of the last round, `(K, size, 2)`, or None.
        edges: Neighbors of every client, `e_t(k)`.
        present: Clients that take part in this round.
        size: Entries per pool; None: always the present checkpoints of all neighbors.
        round: Number of the round.
        every: Rounds between two replacements.
        seed: Seed of the draws, which also depend on the round and the client.

    Returns:
        `(K, size, 2)`; -1 where there is no entry.

    Example:
        >>> refresh(None, [[1], [0, 2], [1]], [0, 1, 2], None, 5, 1, 0).tolist()
        [[[1, 5], [-1, -1]], [[0, 5], [2, 5]], [[1, 5], [-1, -1]]]
    """
    here = set(present)
    if size is None:
        widest = max(map(len, edges))
        fresh = [[[j, round] for j in neighbors if j in here] for neighbors in edges]
        rows = [entries + [[-1, -1]] * (widest - len(entries)) for entries in fresh]
        return torch.tensor(rows, dtype=torch.long).view(len(edges), widest, 2)
    table = torch.full((len(edges), size, 2), -1) if pool is None else pool.clone()
    for client, neighbors in enumerate(edges):
        generator = np.random.default_rng([seed, round, client, REFRESH])
        near = [j for j in neighbors if j in here]
        gone = ~torch.isin(table[client, :, 0], torch.tensor(list(neighbors) or [-1]))
        table[client, gone] = -1
        empty = (table[client, :, 0] < 0).nonzero().flatten().tolist()
        if not near or client not in here:
            continue
        due = empty or ([int(generator.integers(size))] if round % every == 0 else [])
        for place in due:
            table[client, place] = torch.tensor([near[int(generator.integers(len(near)))], round])
    return table


def pick(
    entries: Tensor, present: Sequence[int], steps: int, teachers: int | None, seed: Sequence[int]
) -> Tensor:
    """Draws the entries of a client's pool that teach in each step.

    Args:
        entries: The client's pool, `(size, 2)`.
        present: Clients that can answer.
        steps: Number of steps.
        teachers: Delta, the number of different entries per step, fewer if the pool has fewer; None for all.
        seed: Integers.

    Returns:
        `(steps, teachers)`, places in the pool; the second dimension is empty if no entry can teach.

    Example:
        >>> pick(torch.tensor([[1, 0], [-1, -1]]), [0, 1], 3, 1, [0]).tolist()
        [[0], [0], [0]]
    """
    here = torch.tensor(list(present) or [-1])
    able = torch.isin(entries[:, 0], here[here >= 0]).nonzero().flatten().numpy()
    generator = np.random.default_rng([*seed, PICK])
    count = len(able) if teachers is None else min(teachers, len(able))
    drawn = [generator.choice(able, count, replace=False) for _ in range(steps)] if count else []
    return torch.from_numpy(np.stack(drawn)) if count else torch.zeros(steps, 0, dtype=torch.long)


def questions(
    table: Tensor, taught: Sequence[tuple[Tensor, Tensor]], peers: Sequence[int], stale: bool = True
) -> dict[int, Tensors]:
    """Tells every peer which of its checkpoints teach in which steps, and which it has to keep.

    Args:
        table: All pools, `(K, size, 2)`.
        taught: For every client its pool, and the places in it that teach in each step.
        peers: Clients that can answer.
        stale: Whether checkpoints outlive the round.

    Example:
        >>> table = torch.tensor([[[1, 0]], [[0, 0]]])
        >>> asked = questions(table, [(table[0], torch.tensor([[0]])), (table[1], torch.tensor([[0]]))], [0, 1])
        >>> asked[1]
        {'keep': tensor([0]), 'rounds': tensor([0]), 'steps': tensor([0])}

    Returns:
        By peer: the rounds of the checkpoints to `keep`, and `rounds (n,)` and `steps (n,)`: of which
        checkpoint, and for which step, an answer is asked for.
    """
    none = torch.zeros(0, dtype=torch.long)
    wanted: dict[int, set[tuple[int, int]]] = {j: set() for j in peers}
    for pool, chosen in taught:
        for step, places in enumerate(chosen.tolist()):
            for place in places:
                j, round = pool[place].tolist()
                wanted[j].add((round, step))
    asked = {}
    for j, pairs in wanted.items():
        rounds, steps = torch.tensor(sorted(pairs), dtype=torch.long).view(-1, 2).unbind(1)
        keep = table[table[..., 0] == j][:, 1].unique() if stale else none
        asked[j] = {"keep": keep, "rounds": rounds, "steps": steps}
    return asked
