"""The picture of which client holds what: labels, modalities and amounts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lkd.metrics.tables import Row

SHOWN = 60  # clients in the picture, and in the terminal


def draw(clients: Sequence[Row], path: Path, counted: str = "label") -> None:
    """Draws which client holds what: a bubble for every label and client, its area the number of samples.

    The sizes of the clients are below.

    Under a modality plan there is a grid between the two: the darker a cell, the more of a client's samples
    have the modality (percentages are written in). What a client does not own is blank.

    Of many clients, the first 60 are drawn above, and all of them below, by size.

    Args:
        clients: Rows of `FederatedDataModule.summary`.
        path: The PNG to write.
        counted: Name of the values that are counted, beside their axis.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = clients[:SHOWN]
    labels, modalities = list(shown[0]["counts"]), list(shown[0].get("missing", ()))
    cell = 0.22 if len(shown) > 20 or len(labels) > 20 else 0.32  # inches
    heights = [max(cell * len(labels), 0.1), *([cell * len(modalities)] if modalities else []), 1.6]
    size = max(4.0, cell * len(shown) + 1.5), sum(heights) + 0.8 + 0.4 * bool(modalities)
    figure = Figure(figsize=size, layout="constrained")
    above, *between, below = figure.subplots(len(heights), 1, gridspec_kw={"height_ratios": heights})
    _bubbles(above, shown, labels, cell)
    above.set_ylabel(counted)
    for axes in between:
        _grid(axes, shown, modalities)
    sizes = np.array([row["samples"] for row in clients])
    if len(shown) == len(clients):
        below.bar(range(len(clients)), sizes, color="#f39c12")
        below.set_xticks(range(len(clients)), [str(row["name"]) for row in clients], rotation=90, fontsize=7)
        below.set(xlim=(-0.6, len(shown) - 0.4), xlabel="client", ylabel="training samples")
    else:
        above.set_title(f"the first {len(shown)} of {len(clients)} clients", fontsize=9, loc="right")
        above.set_xlabel("client")
        below.plot(np.sort(sizes)[::-1], color="#f39c12")
        below.set(xlabel="clients by size", ylabel="training samples", ylim=(0, None))
    FigureCanvasAgg(figure).print_png(path)


def _bubbles(axes: Any, clients: Sequence[Row], labels: Sequence[str], cell: float) -> None:
    """Draws the number of samples for each label and client as an area."""
    counts = np.array([[row["counts"][label] for row in clients] for label in labels])
    counts = counts.reshape(len(labels), len(clients))
    y, x = np.nonzero(counts)
    area = (0.9 * cell * 72) ** 2 / max(counts.max(initial=0), 1)  # the largest bubble fills its cell
    axes.scatter(x, y, counts[y, x] * area, color="#3498db")
    most = int(counts.max(initial=0))
    for number in sorted({most, (most + 3) // 4}) if most else ():
        axes.scatter([], [], number * area, color="#3498db", label=f"{number} samples")
    if most:
        above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "frameon": False}
        axes.legend(**above, ncols=2, fontsize=7, handletextpad=1.2, borderpad=1)
    axes.set(xlim=(-0.6, len(clients) - 0.4), ylim=(-0.6, len(labels) - 0.4))
    if not labels:
        axes.set_axis_off()
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.set_xticks([])


def _grid(axes: Any, clients: Sequence[Row], modalities: Sequence[str]) -> None:
    """Draws the share of the samples that have each modality, blank where the client does not own it."""
    lacks = [[row["missing"][name] for row in clients] for name in modalities]
    shares = 1 - np.array(lacks, dtype=np.float64)  # None becomes NaN, which is not drawn
    x, y = np.arange(len(clients) + 1) - 0.5, np.arange(len(modalities) + 1) - 0.5
    axes.pcolormesh(x, y, shares, cmap="Greens", vmin=-0.15, vmax=1.15, edgecolors="white", linewidth=1)
    for row, column in zip(*np.nonzero(np.isfinite(shares)), strict=True):
        share = shares[row, column]
        color = "white" if share > 0.6 else "black"
        axes.text(column, row, f"{100 * share:.0f}", fontsize=5, ha="center", va="center", color=color)
    axes.set(xlim=(-0.6, len(clients) - 0.4), ylim=(-0.6, len(modalities) - 0.4))
    axes.set_title("% of samples that have a modality, blank if not owned", fontsize=7, loc="left")
    axes.set_ylabel("modality")
    axes.set_yticks(range(len(modalities)), modalities, fontsize=7)
    axes.set_xticks([])
