"""One communication graph, drawn by networkx on matplotlib axes whose unit is an inch."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import networkx as nx
import numpy as np
from scipy.spatial.distance import pdist

from lkd.federated.topology.base import Edges

EDGE, ARROW = "#9aa3ad", "#3b4754"
RADIUS = 0.19  # of a node, in inches, where nodes are not too close
SHORT = 3  # longest name, in letters, that fits into a node
BEND = 1.9  # radii by which an edge goes round a node in its way
CROWD = 300  # edges, counted in both directions, beyond which they are not bent round nodes
POINTS = 72  # an inch


def draw_panel(axes: Any, points: np.ndarray, edges: Edges, names: Sequence[str], colors: list[str]) -> None:
    """Draws edges, nodes in these colors, and names; `points` (K, 2) are the centers in inches."""
    graph = nx.from_dict_of_lists(dict(enumerate(edges)), nx.DiGraph)
    radius = min(RADIUS, 0.3 * pdist(points).min(initial=np.inf))
    _edges(axes, graph, points, radius)
    size, places = (2 * radius * POINTS) ** 2, dict(enumerate(points))
    nx.draw_networkx_nodes(graph, places, node_size=size, node_color=colors, edgecolors="white", ax=axes)
    _names(axes, graph, points, names, radius)


def label_width(names: Sequence[str]) -> float:
    """Returns the width in inches of the longest name below a node; 0 where names are inside the nodes.

    Example:
        >>> label_width(["0", "C1"]), label_width(["C1", "traffic camera"]) > 0.8
        (0.0, True)
    """
    longest = max(len(name) for name in names)
    return 0.065 * longest if longest > SHORT else 0.0


def _edges(axes: Any, graph: Any, points: np.ndarray, radius: float) -> None:
    """Draws a line where both learn, else an arrow."""
    alike = defaultdict(list)  # edges by their look: a call of networkx bends all of its edges alike
    count = max(graph.number_of_edges(), 1)
    for k, j in graph.edges:
        arrow = not graph.has_edge(j, k)
        if arrow or k < j:
            alike[arrow, _bend(points, k, j, radius) if count <= CROWD else 0.0].append((k, j))
    for (arrow, bend), some in sorted(alike.items()):  # arrows above lines
        style: dict[str, Any] = {"arrows": False}  # one collection of lines, which is much faster
        if arrow or bend:
            style = {"arrowstyle": "-|>" if arrow else "-", "connectionstyle": f"arc3,rad={bend}"}
            style |= {"arrowsize": max(5, 55 * radius), "node_size": (2 * radius * POINTS + 2) ** 2}
        style |= {"edge_color": ARROW if arrow else EDGE, "width": min(max(45 / count, 0.4), 1.5)}
        nx.draw_networkx_edges(graph, dict(enumerate(points)), some, ax=axes, **style)


def _bend(points: np.ndarray, k: int, j: int, radius: float) -> float:
    """Returns an edge's curvature: outwards if a node is in its way, which networkx does not see, else 0."""
    along, others = points[j] - points[k], np.delete(points, [k, j], axis=0) - points[k]
    length = float(np.linalg.norm(along))
    right = np.array([along[1], -along[0]]) / length  # where a positive curvature bends to
    share, off = others @ along / length**2, np.abs(others @ right)
    if not ((0 < share) & (share < 1) & (off < 0.4 * radius)).any():
        return 0.0
    outwards = points[k] + along / 2 - points.mean(0)
    # matplotlib's arc3 bends by half of its `rad` times the length
    return math.copysign(2 * BEND * radius / length, outwards @ right + 1e-9)


def _names(axes: Any, graph: Any, points: np.ndarray, names: Sequence[str], radius: float) -> None:
    """Writes names inside the nodes if all are short, else below; leaves them out if they were too small."""
    from matplotlib.patheffects import withStroke

    below = label_width(names) > 0
    size = radius * POINTS * (0.8 if any(len(name) == SHORT for name in names) else 1.0)
    if size < 4:
        return
    style: dict[str, Any] = {"font_size": size, "font_color": "white", "verticalalignment": "center_baseline"}
    if below:
        points, style = points - [0, radius + 0.03], {"font_size": 8, "verticalalignment": "top"}
    places, labels = dict(enumerate(points)), dict(enumerate(names))
    for text in nx.draw_networkx_labels(graph, places, labels, ax=axes, clip_on=False, **style).values():
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")] if below else [])  # a halo
