"""One communication graph on matplotlib axes whose unit is an inch."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lkd.federated.topology.base import Edges

EDGE, ARROW = "#9aa3ad", "#3b4754"
RADIUS = 0.19  # of a node, in inches, where nodes are not too close
SHORT = 3  # longest name, in letters, that fits into a node
BEND = 1.9  # radii by which an edge goes round a node in its way
CROWD = 300  # edges, counted in both directions, beyond which they are not bent round nodes
POINTS = 72  # an inch


def draw_panel(
    axes: Any, points: np.ndarray, edges: Edges, names: Sequence[str], colors: Sequence[Any]
) -> None:
    """Draws edges, nodes and names.

    Args:
        axes: Axes to draw on.
        points: (K, 2), the centers in inches.
        edges: Neighbors of every client.
        names: Names of the clients.
        colors: Colors of the clients.
    """
    radius = min(RADIUS, 0.3 * nearest(points))
    _edges(axes, points, edges, radius)
    axes.scatter(
        *points.T, s=(2 * radius * POINTS) ** 2, c=list(colors), edgecolors="white", linewidths=1, zorder=3
    )
    _names(axes, points, names, radius)


def nearest(points: np.ndarray) -> float:
    """Returns the distance of the two nodes that are closest to each other; 1 for a single node.

    Example:
        >>> nearest(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 3.0]]))
        1.0
    """
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    return float(apart[np.triu_indices(len(points), 1)].min(initial=np.inf)) if len(points) > 1 else 1.0


def one_way(edges: Edges) -> Iterator[tuple[int, int]]:
    """Yields the edges k -> j for which j does not learn from k.

    Example:
        >>> list(one_way([[1, 2], [0], []]))
        [(0, 2)]
    """
    learns = [set(row) for row in edges]
    return ((k, j) for k, row in enumerate(edges) for j in row if k not in learns[j])


def _edges(axes: Any, points: np.ndarray, edges: Edges, radius: float) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.patches import FancyArrowPatch

    arrows = set(one_way(edges))
    straight = []
    count = sum(len(row) for row in edges)
    width = float(np.clip(45 / max(count, 1), 0.4, 1.5))
    for k, row in enumerate(edges):
        for j in row:
            if (k, j) not in arrows and k > j:
                continue  # one line stands for both directions
            bend = _bend(points, k, j, radius) if count <= CROWD else 0.0
            if (k, j) not in arrows and not bend:
                straight.append(points[[k, j]])
                continue
            shrink = radius * POINTS + 1
            style: dict[str, Any] = (
                {"arrowstyle": "-|>", "color": ARROW}
                if (k, j) in arrows
                else {"arrowstyle": "-", "color": EDGE}
            )
            patch = FancyArrowPatch(
                points[k], points[j], connectionstyle=f"arc3,rad={bend}", mutation_scale=max(5, 55 * radius),
                shrinkA=shrink, shrinkB=shrink, linewidth=width, zorder=2, **style,
            )  # fmt: skip
            axes.add_patch(patch)
    axes.add_collection(LineCollection(straight, colors=EDGE, linewidths=width, zorder=1))


def _bend(points: np.ndarray, k: int, j: int, radius: float) -> float:
    """Returns an edge's curvature for matplotlib: 0 unless a node is in the way, then outwards."""
    start, along = points[k], points[j] - points[k]
    others = np.delete(points, [k, j], axis=0) - start
    share = others @ along / (along @ along)
    off = np.linalg.norm(others - share[:, None] * along, axis=1)
    if not ((0 < share) & (share < 1) & (off < 0.4 * radius)).any():
        return 0.0
    length = float(np.linalg.norm(along))
    side = np.array([along[1], -along[0]]) / length  # the side to which a positive curvature bends
    outwards = start + along / 2 - points.mean(0)
    # arc3 bends by half of its `rad` times the length
    return float(2 * BEND * radius / length * (1 if outwards @ side >= -1e-9 else -1))


def label_width(names: Sequence[str]) -> float:
    """Returns the width in inches of the longest name below a node; 0 where names are inside the nodes.

    Example:
        >>> label_width(["0", "C1"]), label_width(["C1", "traffic camera"]) > 0.8
        (0.0, True)
    """
    longest = max(len(name) for name in names)
    return 0.065 * longest if longest > SHORT else 0.0


def _names(axes: Any, points: np.ndarray, names: Sequence[str], radius: float) -> None:
    """Writes names inside the nodes if all are short, else below; leaves them out if they were too small."""
    from matplotlib.patheffects import withStroke

    below = label_width(names) > 0
    size = radius * POINTS * (0.8 if any(len(name) == SHORT for name in names) else 1.0)
    if size < 4:
        return
    for (x, y), name in zip(points, names, strict=True):
        if below:
            halo = [withStroke(linewidth=2.5, foreground="white")]
            y -= radius + 0.03
            axes.text(x, y, name, ha="center", va="top", fontsize=8, zorder=4, path_effects=halo)
        else:
            axes.text(x, y, name, ha="center", va="center_baseline", color="white", fontsize=size, zorder=4)
