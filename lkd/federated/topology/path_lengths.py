"""Distances that knowledge travels along the edges of a graph."""

from collections import deque

from lkd.checks import expect
from lkd.federated.topology.base import Edges


def hops(edges: Edges) -> list[list[int]]:
    """Counts the steps along edges from every client to every other: how far j's knowledge travels to k.

    Args:
        edges: Neighbors of every client, as of `Topology.edges`.

    Returns:
        In `hops(edges)[k][j]` the length of the shortest path from k to j; 0 to itself, -1 if there is none.

    Example:
        >>> hops([[1], [2], []])
        [[0, 1, 2], [-1, 0, 1], [-1, -1, 0]]
    """
    return [_from(start, edges) for start in range(len(edges))]


def reach(edges: Edges, hops: int) -> list[int]:
    """Counts the clients whose knowledge, its own included, can be in a client's auxiliary head `hops`.

    Head m learns from the neighbors' heads m - 1, the main head 0 from the client's own labels; the student's
    own prediction is among the candidates. So head m may know of clients that are at most m steps away.

    Args:
        edges: Neighbors of every client, as of `Topology.edges`.
        hops: m, the number of the head; 0 is the main head.

    Returns:
        A number for every client, from 1 to K.

    Raises:
        ValueError: If hops is negative.

    Example:
        >>> chain = [[1], [0, 2], [1, 3], [2]]
        >>> [reach(chain, head) for head in (0, 1, 2, 3)]
        [[1, 1, 1, 1], [2, 3, 3, 2], [3, 4, 4, 3], [4, 4, 4, 4]]
    """
    expect(hops=hops, ge=0)
    return [sum(0 <= steps <= hops for steps in _from(start, edges)) for start in range(len(edges))]


def _from(start: int, edges: Edges) -> list[int]:
    """Counts the steps from one client to all others, breadth first."""
    found = [-1] * len(edges)
    found[start] = 0
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        for neighbor in edges[here]:
            if found[neighbor] < 0:
                found[neighbor] = found[here] + 1
                waiting.append(neighbor)
    return found
