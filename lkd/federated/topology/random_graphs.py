"""Random graphs, drawn from (seed, round) alone."""

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np

from lkd.checks import expect
from lkd.federated.protocol.seeds import derive
from lkd.federated.topology.base import Topology

DRAWS = 1000  # graphs that are drawn before giving up
ERDOS_RENYI, SMALL_WORLD, NEIGHBORS, REGULAR = range(4)  # independent streams of random numbers


class ErdosRenyi(Topology):
    """Random graph that connects every pair of clients with the same chance p: G(n, p) of Gilbert (1959).

    Named after Erdős and Rényi, "On Random Graphs I", 1959. It is drawn again until it is usable, so the
    distribution is that of G(n, p) among the usable graphs. Above p = ln(n) / n most graphs are connected.

    Args:
        p: Chance of an edge. Default 0.3.
        seed: Not negative.
        connected: Whether a usable graph has to be connected; if False, no client may be isolated.
        every: Rounds after which it is drawn anew. Default: never.

    Raises:
        ValueError: If p is not in (0, 1], seed negative or every below 1; `edges`, if 1000 draws give no
            usable graph.

    Example:
        >>> ErdosRenyi(p=0.4, seed=1).edges(9) == ErdosRenyi(p=0.4, seed=1).edges(9, round=5)
        True
        >>> ErdosRenyi(p=0.4, every=5).edges(9, round=4) == ErdosRenyi(p=0.4, every=5).edges(9, round=5)
        False
    """

    def __init__(
        self, p: float = 0.3, seed: int = 0, connected: bool = True, every: int | None = None
    ) -> None:
        expect(p=p, gt=0, le=1, why="the chance of an edge")
        expect(seed=seed, ge=0)
        expect(every=every, ge=1, none="one graph for all rounds")
        self.p, self.seed, self.connected, self.every = p, seed, connected, every

    @property
    def varies(self) -> bool:
        """Whether the graph is drawn anew in some rounds."""
        return self.every is not None

    def graph(self, nodes: int, round: int = 0) -> Any:
        """Draws the graph of a round."""
        epoch = 0 if self.every is None else round // self.every
        fits = nx.is_connected if self.connected else _nobody_alone
        found = _draw(
            lambda seed: nx.gnp_random_graph(nodes, self.p, seed), fits, self.seed, ERDOS_RENYI, epoch
        )
        if found is None:
            wish = "connected" if self.connected else "without an isolated client"
            raise ValueError(
                f"{self}: none of {DRAWS} graphs of {nodes} clients is {wish}; take a larger p, above "
                f"{min(1.0, np.log(nodes) / nodes):.2g} for {nodes} clients."
            )
        return found


class SmallWorld(Topology):
    """Ring in which each client is connected to its k nearest, with some edges rewired at random.

    Watts and Strogatz, "Collective dynamics of 'small-world' networks", Nature 393, 1998: every edge is
    rewired with chance p to another client, and the graph is drawn again until it is connected.

    Args:
        k: Neighbors on the ring, half of them on each side, so k is even. Default 4.
        p: Chance that an edge is rewired. Default 0.1; 0 is `Ring(hops=k // 2)`.
        seed: Not negative.

    Raises:
        ValueError: If k is not even or below 2, p not in [0, 1], or seed negative; `edges`, if k is not below
            the number of clients.

    Example:
        >>> SmallWorld(k=2, p=0.0).edges(5)
        [[1, 4], [0, 2], [1, 3], [2, 4], [0, 3]]
        >>> sum(len(neighbors) for neighbors in SmallWorld(k=2, p=0.5).edges(5))  # rewired, none lost
        10
    """

    def __init__(self, k: int = 4, p: float = 0.1, seed: int = 0) -> None:
        if k < 2 or k % 2:
            raise ValueError(f"k={k} must be even and 2 or more: half of the neighbors are on each side.")
        expect(p=p, ge=0, le=1, why="the chance that an edge is rewired")
        expect(seed=seed, ge=0)
        self.k, self.p, self.seed = k, p, seed

    def graph(self, nodes: int, round: int = 0) -> Any:
        """Draws the graph, the same in all rounds."""
        if self.k >= nodes:
            raise ValueError(f"{self}: k must be below the number of clients, {nodes}.")
        found = _draw(
            lambda seed: nx.watts_strogatz_graph(nodes, self.k, self.p, seed),
            nx.is_connected,
            self.seed,
            SMALL_WORLD,
        )
        if found is None:
            raise ValueError(
                f"{self}: none of {DRAWS} graphs of {nodes} clients is connected; take a larger k."
            )
        return found


class RandomNeighbors(Topology):
    """Random graph, drawn anew every round, in which each client has `degree` neighbors.

    Args:
        degree: Number of clients that each learns from. Default 1.
        seed: Not negative.
        mutual: Whether a client also teaches those that it learns from, so that the graph is undirected, as
            gossip averaging needs it. It is then a random regular graph (Kim and Vu 2003), for which degree
            times clients must be even. By default each client draws alone, and any number of clients may
            learn from the same one.

    Raises:
        ValueError: If degree is below 1 or seed negative; `edges`, if there are too few clients or, with
            mutual, degree times clients is odd.

    Example:
        >>> changing = RandomNeighbors(degree=2)
        >>> changing.edges(9, round=0) == changing.edges(9, round=1)
        False
        >>> {len(neighbors) for neighbors in changing.edges(9, round=7)}
        {2}
    """

    def __init__(self, degree: int = 1, seed: int = 0, mutual: bool = False) -> None:
        expect(degree=degree, ge=1)
        expect(seed=seed, ge=0)
        self.degree, self.seed, self.mutual = degree, seed, mutual

    @property
    def varies(self) -> bool:
        """Whether the graph depends on the round: always."""
        return True

    def graph(self, nodes: int, round: int = 0) -> Any:
        """Draws the graph of a round."""
        if self.degree >= nodes:
            raise ValueError(f"{self}: a client has only {nodes - 1} others to learn from.")
        if self.mutual:
            return self._regular(nodes, round)
        rng = np.random.default_rng([self.seed, NEIGHBORS, round])
        graph = nx.empty_graph(nodes, create_using=nx.DiGraph)
        for node in range(nodes):
            drawn = rng.choice(nodes - 1, self.degree, replace=False).tolist()
            graph.add_edges_from((node, other + (other >= node)) for other in drawn)  # skips the node itself
        return graph

    def _regular(self, nodes: int, round: int) -> Any:
        if self.degree * nodes % 2:
            raise ValueError(
                f"{self}: degree times clients, {self.degree} times {nodes}, must be even: an edge has two ends."
            )
        seed = derive(self.seed, REGULAR, round)
        rest = nodes - 1 - self.degree
        if rest < self.degree:  # dense graphs are hard to draw, their complements are not
            return nx.complement(nx.random_regular_graph(rest, nodes, seed))
        return nx.random_regular_graph(self.degree, nodes, seed)


def _draw(make: Callable[[int], Any], fits: Callable[[Any], bool], *stream: int) -> Any:
    """Returns the first of 1000 graphs that fits, or None."""
    return next((graph for draw in range(DRAWS) if fits(graph := make(derive(*stream, draw)))), None)


def _nobody_alone(graph: Any) -> bool:
    return all(degree for _, degree in graph.degree)
