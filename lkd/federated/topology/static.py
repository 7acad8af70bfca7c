"""Static graphs: complete, ring, chain, star, grid, islands and tree."""

import math
from itertools import pairwise
from typing import Any

import networkx as nx

from lkd.checks import expect
from lkd.federated.topology.base import Topology
from lkd.federated.topology.plot_layout import Point, circle_of_circles, rows, star, tree

LONGEST = 12  # clients of a chain that a picture shows in one row


class Complete(Topology):
    """Complete graph: every client learns from all others.

    Example:
        >>> Complete().edges(3)
        [[1, 2], [0, 2], [0, 1]]
    """

    def graph(self, nodes: int, round: int = 0) -> Any:
        """Builds the complete graph."""
        return nx.complete_graph(nodes)


class Ring(Topology):
    """Ring in which each client learns from the `hops` nearest on both sides, or on one side.

    Args:
        hops: Distance along the ring. Default 1.
        directed: Whether client k learns from k + 1, ..., k + hops alone (modulo the number of clients), so
            that knowledge travels one way. Default: both ways.

    Raises:
        ValueError: If hops is below 1; `edges`, if the ring is too short for it.

    Example:
        >>> Ring().edges(4), Ring(directed=True).edges(4)
        ([[1, 3], [0, 2], [1, 3], [0, 2]], [[1], [2], [3], [0]])
    """

    def __init__(self, hops: int = 1, directed: bool = False) -> None:
        expect(hops=hops, ge=1)
        self.hops, self.directed = hops, directed

    def graph(self, nodes: int, round: int = 0) -> Any:
        """Builds the ring, after checking that it is long enough."""
        most = nodes - 1 if self.directed else nodes // 2
        if self.hops > most:
            raise ValueError(
                f"{self}: a ring of {nodes} clients has at most hops={most}; with that it is complete."
            )
        if not self.directed:
            return nx.circulant_graph(nodes, range(1, self.hops + 1))
        steps = range(1, self.hops + 1)  # circulant_graph would go both ways even in a DiGraph
        return nx.DiGraph((node, (node + step) % nodes) for node in range(nodes) for step in steps)


class Chain(Topology):
    """Chain in which each client learns from the one before and the one after it.

    The two ends have one neighbor.

    Example:
        >>> Chain().edges(3)
        [[1], [0, 2], [1]]
    """

    def graph(self, nodes: int, round: int = 0) -> Any:
        """Builds the chain of clients."""
        return nx.path_graph(nodes)

    def layout(self, nodes: int) -> list[Point]:
        """Places clients on a line, or in winding rows if it would be long."""
        return rows(nodes, nodes if nodes <= LONGEST else math.ceil(math.sqrt(nodes)), snake=True)


class Star(Topology):
    """Star whose center learns from all others, while they learn from it alone.

    Args:
        center: Number of the client in the center. Default 0.

    Raises:
        ValueError: If center is negative; `edges`, if there is no such client.

    Example:
        >>> Star(center=1).edges(4)
        [[1], [0, 2, 3], [1], [1]]
    """

    def __init__(self, center: int = 0) -> None:
        expect(center=center, ge=0, why="the number of a client")
        self.center = center

    def graph(self, nodes: int, round: int = 0) -> Any:
        """Builds the star, after checking that its center exists."""
        if self.center >= nodes:
            raise ValueError(f"{self}: the last of {nodes} clients is {nodes - 1}.")
        return nx.relabel_nodes(nx.star_graph(nodes - 1), {0: self.center, self.center: 0})

    def layout(self, nodes: int) -> list[Point]:
        """Places the center in the middle of the others."""
        return star(nodes, self.center)


class Grid(Topology):
    """Rectangular grid with clients row by row, which have up to four neighbors each.

    Args:
        rows: Number of rows. Default: nearly square. The last row may be shorter than the others.
        torus: Whether the ends of every row and column are connected, too. Then all rows must be full.

    Raises:
        ValueError: If rows is below 1; `edges`, if clients do not fill so many rows.

    Example:
        >>> Grid().edges(4), Grid(rows=1).edges(3)
        ([[1, 2], [0, 3], [0, 3], [1, 2]], [[1], [0, 2], [1]])
    """

    def __init__(self, rows: int | None = None, torus: bool = False) -> None:
        expect(rows=rows, ge=1, none="a nearly square grid")
        self.rows, self.torus = rows, torus

    def graph(self, nodes: int, round: int = 0) -> Any:
        """Builds the grid, after checking its rows."""
        height, width = self._shape(nodes)
        if (height - 1) * width >= nodes or (self.torus and height * width != nodes):
            full = "full " if self.torus else ""
            raise ValueError(f"{self}: {nodes} clients do not fill {height} {full}rows of {width}.")
        lattice = nx.grid_2d_graph(height, width, periodic=self.torus)
        graph = nx.relabel_nodes(lattice, {(row, column): row * width + column for row, column in lattice})
        graph.remove_nodes_from(range(nodes, height * width))
        return graph

    def _shape(self, nodes: int) -> tuple[int, int]:
        """Returns the numbers of rows and columns."""
        height = self.rows or math.isqrt(nodes)
        if self.torus and self.rows is None:
            height = max(rows for rows in range(1, height + 1) if nodes % rows == 0)
            if height == 1:
                raise ValueError(
                    f"{self}: {nodes} clients fill no two equal rows; take a number that is no prime, rows=1 or torus=False."
                )
        return height, math.ceil(nodes / height)

    def layout(self, nodes: int) -> list[Point]:
        """Places clients row by row."""
        return rows(nodes, self._shape(nodes)[1])


class Islands(Topology):
    """Groups (islands) of successive clients, within which every client learns from all others.

    Sizes differ by at most one, the first groups being the larger ones.

    Args:
        islands: Number of groups. Default 2.
        bridges: Edges between an island and the next one (the last is followed by the first), from the last
            clients of the one to the first clients of the other. Default 0: nothing passes between islands.

    Raises:
        ValueError: If a number is too small; `edges`, if an island has one client only, or fewer than
            bridges.

    Example:
        >>> Islands(2).edges(5), Islands(2, bridges=1).edges(5)
        ([[1, 2], [0, 2], [0, 1], [4], [3]], [[1, 2], [0, 2], [0, 1, 3], [2, 4], [3]])
    """

    def __init__(self, islands: int = 2, bridges: int = 0) -> None:
        expect(islands=islands, ge=1)
        expect(bridges=bridges, ge=0)
        self.islands, self.bridges = islands, bridges

    def graph(self, nodes: int, round: int = 0) -> Any:
        """Builds the islands and their bridges."""
        groups = self.groups(nodes)
        if self.bridges > len(groups[-1]):
            raise ValueError(
                f"{self}: the smallest of the islands of {nodes} clients has {len(groups[-1])}, too few for bridges={self.bridges}."
            )
        graph = nx.disjoint_union_all(nx.complete_graph(len(group)) for group in groups)
        pairs = list(pairwise(groups))
        if len(groups) > 2:
            pairs.append((groups[-1], groups[0]))
        for one, other in pairs:
            graph.add_edges_from((one[-1 - bridge], other[bridge]) for bridge in range(self.bridges))
        return graph

    def groups(self, nodes: int) -> list[range]:
        """Returns the clients of every island.

        Raises:
            ValueError: If there are fewer clients than islands.
        """
        if nodes < self.islands:
            raise ValueError(f"{self} needs at least {self.islands} clients, not {nodes}.")
        size, larger = divmod(nodes, self.islands)
        starts = [island * size + min(island, larger) for island in range(self.islands + 1)]
        return [range(start, end) for start, end in pairwise(starts)]

    def layout(self, nodes: int) -> list[Point]:
        """Places every island on a circle of its own."""
        return circle_of_circles([len(group) for group in self.groups(nodes)])


class Hierarchical(Topology):
    """Tree, filled level by level: each client learns from its parent and its children. Client 0 is the root.

    Args:
        branching: Children of a node. Default 2; 1 gives a chain.

    Raises:
        ValueError: If branching is below 1.

    Example:
        >>> Hierarchical().edges(5)
        [[1, 2], [0, 3, 4], [0], [1], [1]]
    """

    def __init__(self, branching: int = 2) -> None:
        expect(branching=branching, ge=1)
        self.branching = branching

    def graph(self, nodes: int, round: int = 0) -> Any:
        """Builds the tree of clients."""
        return nx.full_rary_tree(self.branching, nodes)

    def layout(self, nodes: int) -> list[Point]:
        """Places the root at the top."""
        return tree(nodes, self.branching)
