"""Positions of clients in a picture: a point (x, y) each, y upwards, in units of its own."""

import itertools
import math
from collections.abc import Sequence

import networkx as nx

Point = tuple[float, float]


def circle(nodes: int, start: float = 0.0) -> list[Point]:
    """Places nodes clockwise on a circle from this angle (radians from the top), neighbors at distance 1.

    Example:
        >>> [(round(x, 3), round(y, 3)) for x, y in circle(3)]
        [(0.0, 0.577), (0.5, -0.289), (-0.5, -0.289)]
    """
    return _shells([range(nodes)], 0.5 / math.sin(math.pi / max(nodes, 2)), start)


def star(nodes: int, center: int) -> list[Point]:
    """Places one node in the middle, and the others around it."""
    others = [node for node in range(nodes) if node != center]
    return _shells([[center], others], max(1.0, math.hypot(*circle(nodes)[0])))


def rows(nodes: int, columns: int, snake: bool = False) -> list[Point]:
    """Places nodes row by row from the top left; networkx has no such layout.

    A snake reverses every other row, so that successive nodes are neighbors. The last row may be shorter.

    Example:
        >>> rows(4, 2), rows(4, 2, snake=True)
        ([(0, 0), (1, 0), (0, -1), (1, -1)], [(0, 0), (1, 0), (1, -1), (0, -1)])
    """
    places = (divmod(node, columns) for node in range(nodes))
    return [(columns - 1 - column if snake and row % 2 else column, -row) for row, column in places]


def tree(nodes: int, branching: int) -> list[Point]:
    """Places a full tree level by level: parents above the middle of their children, leaves at distance 1.

    networkx's `bfs_layout` centers each level for itself, and so moves a short last one off its parents.
    """
    graph, leaves = nx.full_rary_tree(branching, nodes), itertools.count()
    depth, x = nx.shortest_path_length(graph, 0), dict[int, float]()
    for node in nx.dfs_postorder_nodes(graph, 0):
        children = [x[child] for child in graph[node] if child > node]
        x[node] = (children[0] + children[-1]) / 2 if children else float(next(leaves))
    return [(x[node], -float(depth[node])) for node in range(nodes)]


def circle_of_circles(sizes: Sequence[int]) -> list[Point]:
    """Places groups of successive nodes on circles of their own, whose centers lie on a large circle.

    The first node of a group faces the group before, its last one the group after.
    """
    begin = -math.pi / 2 if len(sizes) == 2 else 0.0  # puts two groups side by side
    apart = 1.2 + 2 * max(math.hypot(*circle(size)[0]) for size in sizes)  # centers of neighboring groups
    points = []
    for group, (size, (x, y)) in enumerate(zip(sizes, circle(len(sizes), begin), strict=True)):
        inwards = begin + 2 * math.pi * group / len(sizes) + math.pi
        points += [(apart * x + dx, apart * y + dy) for dx, dy in circle(size, inwards + math.pi / size)]
    return points


def _shells(shells: Sequence[Sequence[int]], radius: float, start: float = 0.0) -> list[Point]:
    """Turns networkx's circles, which run counterclockwise from the right, by swapping x and y."""
    nodes = range(sum(len(shell) for shell in shells))
    found = nx.shell_layout(nodes, shells, rotate=start, scale=radius * len(shells))
    return [(float(found[node][1]), float(found[node][0])) for node in nodes]
