"""Positions of clients in a picture: a point (x, y) each, y upwards, in units of its own."""

import math
from collections.abc import Sequence

Point = tuple[float, float]


def circle(nodes: int, smallest: float = 0.0, start: float = 0.0) -> list[Point]:
    """Places nodes clockwise on a circle, with neighbors at distance 1.

    Args:
        nodes: Number of nodes.
        smallest: Smallest radius of the circle, whatever the distance.
        start: Angle of the first node, in radians clockwise from the top.

    Example:
        >>> [(round(x, 3), round(y, 3)) for x, y in circle(4)]
        [(0.0, 0.707), (0.707, 0.0), (0.0, -0.707), (-0.707, -0.0)]
    """
    radius = max(smallest, 0.5 / math.sin(math.pi / nodes) if nodes > 1 else 0.0)
    angles = [start + 2 * math.pi * node / nodes for node in range(nodes)]
    return [(radius * math.sin(angle), radius * math.cos(angle)) for angle in angles]


def rows(nodes: int, columns: int, snake: bool = False) -> list[Point]:
    """Places nodes row by row from the top left, at distance 1.

    Args:
        nodes: Number of nodes.
        columns: Nodes in a row; the last row may be shorter.
        snake: Whether every other row is reversed, so that successive nodes are neighbors.

    Example:
        >>> rows(4, 2), rows(4, 2, snake=True)
        ([(0, 0), (1, 0), (0, -1), (1, -1)], [(0, 0), (1, 0), (1, -1), (0, -1)])
    """
    points: list[Point] = []
    for node in range(nodes):
        row, column = divmod(node, columns)
        points.append((columns - 1 - column if snake and row % 2 else column, -row))
    return points


def star(nodes: int, center: int) -> list[Point]:
    """Places one node in the middle, and the others around it."""
    ring = circle(nodes - 1, smallest=1.0)
    return [*ring[:center], (0.0, 0.0), *ring[center:]]


def tree(nodes: int, branching: int) -> list[Point]:
    """Places a full tree level by level: parents above the middle of their children, leaves at distance 1."""
    children = [range(branching * n + 1, min(branching * n + branching + 1, nodes)) for n in range(nodes)]
    x, y = [0.0] * nodes, [0.0] * nodes
    free = 0.0  # x of the next leaf

    def place(node: int, depth: int) -> None:
        nonlocal free
        y[node] = -float(depth)
        for child in children[node]:
            place(child, depth + 1)
        if children[node]:
            x[node] = (x[children[node][0]] + x[children[node][-1]]) / 2
        else:
            x[node] = free
            free += 1

    place(0, 0)
    return list(zip(x, y, strict=True))


def circle_of_circles(sizes: Sequence[int]) -> list[Point]:
    """Places groups of successive nodes on circles of their own, whose centers lie on a large circle.

    The first node of a group faces the group before, its last one the group after.
    """
    radius = max(math.hypot(*circle(size)[0]) for size in sizes)
    begin = -math.pi / 2 if len(sizes) == 2 else 0.0  # puts two groups side by side
    centers = circle(len(sizes), start=begin)
    points = []
    for group, (size, (x, y)) in enumerate(zip(sizes, centers, strict=True)):
        inwards = begin + 2 * math.pi * group / len(sizes) + math.pi
        own = circle(size, start=inwards + math.pi / size)
        distance = 2 * radius + 1.2  # between the centers of two neighboring groups
        points += [(x * distance + dx, y * distance + dy) for dx, dy in own]
    return points
