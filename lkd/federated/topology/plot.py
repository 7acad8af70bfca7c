"""Pictures of communication graphs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lkd.federated.topology.base import Edges
from lkd.federated.topology.plot_axes import ARROW, draw_panel, label_width, nearest, one_way
from lkd.federated.topology.plot_layout import Point, circle

APART, LARGEST, MARGIN = 0.9, 6.5, 0.45  # inches: between two nodes; largest side of a panel; around it
LINE = 0.28  # height of a line of text in inches
COLORS = (
    "#4c72b0",
    "#dd8452",
    "#55a868",
    "#c44e52",
    "#8172b3",
    "#937860",
    "#da8bc3",
    "#8c8c8c",
    "#ccb974",
    "#64b5cd",
)
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

    A line joins two clients that learn from each other; an arrow from k to j means that k alone learns from
    j.

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
    """Draws several graphs of the same clients side by side.

    Args:
        graphs: Edges of each graph, by its title.
        path: The PNG to write; missing folders are created.
        names: Names of the clients. Default: their numbers.
        groups: Group of each client; each has a color.
        layout: A point (x, y) for every client, the same in all graphs. Default: on a circle.

    Raises:
        ValueError: If there are not as many names, groups or points as clients.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    nodes = len(next(iter(graphs.values())))
    for what, given in (("names", names), ("groups", groups), ("layout", layout)):
        if given is not None and len(given) != nodes:
            raise ValueError(f"{what} has {len(given)} entries, but there are {nodes} clients.")
    names = [str(node) for node in range(nodes)] if names is None else names
    kinds = list(dict.fromkeys(groups or [0] * nodes))
    colors = {kind: COLORS[i % len(COLORS)] for i, kind in enumerate(kinds)}
    label = label_width(names)
    points = _in_inches(circle(nodes) if layout is None else layout, max(APART, label))
    arrows = any(any(one_way(edges)) for edges in graphs.values())

    margin = max(MARGIN, label / 2)
    wide, high = points.max(0) + np.array([2 * margin, 2 * MARGIN])
    foot = max(3.0 * arrows, sum(0.4 + 0.08 * len(str(kind)) for kind in kinds) if groups else 0.0)
    panel = max(wide, 0.09 * max(len(title) for title in graphs), foot / len(graphs), 2.0)
    below = LINE * (arrows + bool(groups))
    size = (panel * len(graphs), below + high + LINE * any(graphs))
    figure = Figure(figsize=size)
    for i, (title, edges) in enumerate(graphs.items()):
        axes = figure.add_axes((i / len(graphs), below / size[1], 1 / len(graphs), high / size[1]))
        axes.set_axis_off()
        left = margin + (panel - wide) / 2
        axes.set(xlim=(-left, panel - left), ylim=(-MARGIN, high - MARGIN))
        draw_panel(axes, points, edges, names, [colors[kind] for kind in groups or [0] * nodes])
        figure.text(
            (i + 0.5) / len(graphs), 1 - 0.6 * LINE / size[1], title, ha="center", va="center", fontsize=11
        )
    if arrows:
        words = "arrow k → j: k learns from j; line: both ways"
        figure.text(0.5, 0.5 * LINE / size[1], words, ha="center", va="center", fontsize=9, color=ARROW)
    if groups:
        _legend(figure, colors, LINE * (arrows + 0.5) / size[1])
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_figure(path, dpi=130, format="png")


def _in_inches(layout: Sequence[Point], apart: float) -> np.ndarray:
    """Scales points (K, 2) to inches, from (0, 0) on, at this distance if the panel can hold that."""
    points = np.array(layout, dtype=float)
    points -= points.min(0)
    largest = max(points.max(), 1e-9)
    return points * min(apart / max(nearest(points), 1e-9), LARGEST / largest)


def _legend(figure: Any, colors: Mapping[str | int, str], height: float) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], marker="o", linestyle="", color=color, label=str(kind))
        for kind, color in colors.items()
    ]
    figure.legend(
        handles=marks, loc="center", bbox_to_anchor=(0.5, height), ncols=len(marks), frameon=False, fontsize=9,
        handletextpad=0.1, columnspacing=1.2,
    )  # fmt: skip
