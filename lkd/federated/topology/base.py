"""The base of communication graphs, as functions of the number of clients and the round."""

from collections.abc import Iterable
from typing import Any

from lkd.checks import expect
from lkd.federated.topology.plot_layout import Point, circle
from lkd.shown import shown

Edges = list[list[int]]
"""Clients from which each client learns, in ascending order."""


def check_topology(topology: Any) -> None:
    """Refuses a name or a class in place of a graph.

    Raises:
        TypeError: If it is not a `Topology`.
    """
    if not isinstance(topology, Topology):
        raise TypeError(f"topology={shown(topology)} must be an object of Topology, such as Ring().")


class Topology:
    """Directed communication graph: an edge k -> j means that k learns from j (j teaches k).

    So the neighbors of client k are the out-edges `e_t(k)` of Zhmoginov et al., "Decentralized Learning with
    Multi-Headed Distillation", CVPR 2023, arXiv:2211.15774. In an undirected graph every edge goes both ways.

    A subclass gives `graph`; `edges` checks it. A client may teach without learning, or learn without
    teaching, but every client must do at least one of them. A single client is the exception: it learns from
    nobody, in every topology.

    Example:
        >>> import networkx
        >>> class Wheel(Topology):
        ...     def graph(self, nodes, round=0):
        ...         return networkx.wheel_graph(nodes)
        >>> Wheel().edges(5)
        [[1, 2, 3, 4], [0, 2, 4], [0, 1, 3], [0, 2, 4], [0, 1, 3]]
    """

    @property
    def varies(self) -> bool:
        """Whether the graph depends on the round."""
        return False

    def graph(self, nodes: int, round: int = 0) -> Any:
        """Builds the graph as a networkx `Graph`, or a `DiGraph` if edges go one way.

        Args:
            nodes: Number of clients, 2 or more; the nodes of the graph are 0 to `nodes - 1`.
            round: Number of the round, from 0. The graph depends on it and on nothing that happened before.
        """
        raise NotImplementedError(f"{type(self).__name__} has no graph(nodes, round).")

    def edges(self, nodes: int, round: int = 0) -> Edges:
        """Returns the neighbors of every client, sorted: client k learns from those in `edges(nodes)[k]`.

        Args:
            nodes: Number of clients.
            round: Number of the round, from 0.

        Raises:
            ValueError: If the graph does not exist for so many clients, or isolates one.
        """
        expect(nodes=nodes, ge=1)
        expect(round=round, ge=0)
        return [[]] if nodes == 1 else self._checked(self.graph(nodes, round), nodes)

    def check(self, nodes: int) -> None:
        """Refuses, before the first round, a graph that does not exist for so many clients.

        Args:
            nodes: Number of clients.

        Raises:
            ValueError: As `edges` does.
        """
        self.edges(nodes)

    def layout(self, nodes: int) -> list[Point]:
        """Places the clients in a picture, by default on a circle; the same for all rounds."""
        return circle(nodes)

    def _checked(self, graph: Any, nodes: int) -> Edges:
        ids = set(range(nodes))
        if strangers := sorted(set(graph) - ids, key=str):
            raise ValueError(
                f"{self} names {listed(strangers)}, but the {nodes} clients are numbered from 0 to {nodes - 1}."
            )
        if loops := sorted(node for node in graph if graph.has_edge(node, node)):
            raise ValueError(f"{self} has an edge from {listed(loops)} to itself; leave self loops out.")
        if alone := sorted(ids - {node for node, degree in graph.degree if degree}):
            raise ValueError(
                f"{self} with {nodes} clients isolates {listed(alone)}: nobody to learn from, nobody to teach."
            )
        return [sorted(graph.adj[node]) for node in range(nodes)]

    def __repr__(self) -> str:
        given = (f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"{type(self).__name__}({', '.join(given)})"


def listed(clients: Iterable[Any], most: int = 5) -> str:
    """Lists clients in words, for a message.

    Example:
        >>> listed([3]), listed(range(9), most=3)
        ('client 3', 'clients 0, 1, 2 and 6 more')
    """
    names = [str(client) for client in clients]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"client{'s' * (len(names) > 1)} {', '.join(names[:most])}{rest}"
