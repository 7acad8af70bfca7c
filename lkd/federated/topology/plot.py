"""Pictures of communication graphs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import pdist

from lkd.federated.topology.base import Edges
from lkd.federated.topology.plot_axes import ARROW, draw_panel, label_width
from lkd.federated.topology.plot_layout import Point, circle

APART, LARGEST, MARGIN = 0.9, 6.5, 0.45  # inches: between two nodes; largest side of a panel; around it
COLORS = "#4c72b0 #dd8452 #55a868 #c44e52 #8172b3 #937860 #da8bc3 #8c8c8c #ccb974 #64b5cd".split()
"""A color for each group; the eleventh group has the first color again."""


def draw(
    edges: Edges,
    path: str | Path,
    names: Sequence[str] | None = None,
    groups: Sequence[str | int] | None = None,
    title: str | None = None,
    layout: Sequence[Point] | None = None,
) -> None:
    """Draws who learns from whom as a PNG.

    A line joins two clients that learn from each other; by an arrow from k to j, k alone learns from j.

    Args:
        edges: Neighbors of every client, as of `Topology.edges`.
        path: The PNG to write; missing folders are created.
        names: Names of the clients. Default: their numbers.
        groups: Group of each client, such as an architecture or an island; each has a color.
        title: Title above the graph.
        layout: A point (x, y) for every client, such as of `Topology.layout`. Default: on a circle.

    Raises:
        ValueError: If there are not as many names, groups or points as clients.

    Example:
        >>> import tempfile
        >>> from lkd.federated.topology import Grid
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     draw(Grid().edges(9), f"{folder}/grid.png", title="Nine cameras", layout=Grid().layout(9))
    """
    draw_rounds({title or "": edges}, path, names, groups, layout)


def draw_rounds(
    graphs: Mapping[str, Edges],
    path: str | Path,
    names: Sequence[str] | None = None,
    groups: Sequence[str | int] | None = None,
    layout: Sequence[Point] | None = None,
) -> None:
    """Draws several graphs of the same clients side by side, each below its title; all else as `draw` does."""
    from matplotlib.figure import Figure

    nodes = len(next(iter(graphs.values())))
    for what, given in (("names", names), ("groups", groups), ("layout", layout)):
        if given is not None and len(given) != nodes:
            raise ValueError(f"{what} has {len(given)} entries, but there are {nodes} clients.")
    names = [str(node) for node in range(nodes)] if names is None else names
    colors = {kind: COLORS[i % len(COLORS)] for i, kind in enumerate(dict.fromkeys(groups or []))}
    label = label_width(names)
    points = _in_inches(circle(nodes) if layout is None else layout, max(APART, label))

    wide, high = points.max(0) - points.min(0) + 2 * np.array([max(MARGIN, label / 2), MARGIN])
    wide = max(wide, 0.09 * max(len(title) for title in graphs), 2.0)
    figure = Figure((wide * len(graphs), high))  # not pyplot's, which would keep it
    for i, (title, edges) in enumerate(graphs.items()):
        axes = figure.add_axes((i / len(graphs), 0, 1 / len(graphs), 1))
        axes.set(xlim=(-wide / 2, wide / 2), ylim=(-high / 2, high / 2))
        axes.set_axis_off()
        axes.set_title(title, fontsize=11)
        draw_panel(axes, points, edges, names, [colors[kind] for kind in groups or []] or COLORS[:1] * nodes)
    one_way = any(k not in e[j] for e in graphs.values() for k, row in enumerate(e) for j in row)
    if groups or one_way:
        _legend(figure, colors, one_way)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # tight, as titles and the legend lie outside of the panels
    figure.savefig(path, dpi=130, format="png", bbox_inches="tight", pad_inches=0.05)


def _in_inches(layout: Sequence[Point], apart: float) -> np.ndarray:
    """Scales points (K, 2) to inches around (0, 0), at this distance if the panel can hold that."""
    points = np.array(layout, dtype=float)
    points -= (points.min(0) + points.max(0)) / 2
    nearest, largest = pdist(points).min(initial=np.inf), 2 * points.max()
    return points * min(apart / max(nearest, 1e-9), LARGEST / max(largest, 1e-9))


def _legend(figure: Any, colors: Mapping[str | int, str], arrows: bool) -> None:
    """Says below the graphs what arrows mean, and which group has which color."""
    from matplotlib.lines import Line2D

    marks = [Line2D([], [], marker="o", ls="", color=c, label=str(kind)) for kind, c in colors.items()]
    legend = figure.legend(
        handles=marks, ncols=max(len(marks), 1), title="arrow k → j: k learns from j; line: both ways" * arrows,
        loc="upper center", bbox_to_anchor=(0.5, 0), frameon=False, fontsize=9, title_fontsize=9,
        handletextpad=0.1, columnspacing=1.2, borderaxespad=0,
    )  # fmt: skip
    legend.get_title().set_color(ARROW)
