"""The metric of every client, as a picture and as means."""

import math
from pathlib import Path
from statistics import fmean

from lkd.compare.axes import same_limits, wrapped
from lkd.compare.results import GridResults
from lkd.compare.svg import INK, look, new_figure, style, to_svg


def spread(results: GridResults, column: str, folder: Path) -> str:
    """Draws the metric of every client: a box per method, a dot per client (mean over the seeds).

    Args:
        results: Results of the runs.
        column: Column of `GridResults.clients` to draw.
        folder: Folder for the picture's files.

    Returns:
        The picture as SVG.
    """
    grid = results.grid
    means = client_means(results, column)
    settings = list(dict.fromkeys(setting for setting, _, _ in means))
    with style():
        figure, axes = new_figure(len(settings), height=1.1 + 0.36 * len(grid.methods))
        for setting, ax in zip(settings, axes, strict=True):
            methods = [m for m in grid.methods if any(k[:2] == (setting, m) for k in means)]
            for y, method in enumerate(methods):
                found = [value for key, value in means.items() if key[:2] == (setting, method)]
                chosen = look(list(grid.methods).index(method))
                ax.boxplot(
                    [found],
                    positions=[y],
                    orientation="horizontal",
                    widths=0.6,
                    showfliers=False,
                    **{
                        part: {"color": INK, "alpha": 0.6}
                        for part in ("boxprops", "whiskerprops", "capprops")
                    },
                    medianprops={"color": chosen["color"], "linewidth": 2},
                )
                lift = [y + 0.16 * ((i % 3) - 1) for i in range(len(found))]  # so that equal dots show
                ax.plot(found, lift, linestyle="", markersize=4, alpha=0.8, **chosen)
            ax.set_yticks(range(len(methods)), [wrapped(m, 22) for m in methods])
            ax.invert_yaxis()
            ax.set(xlabel=wrapped(results.label(column)), title=setting)
        same_limits(axes, "x")
        return to_svg(
            figure,
            f"spread-{column.partition('/')[0]}",
            f"{results.label(column)}: each client, by method, as boxes and dots",
            folder,
        )


def client_columns(results: GridResults) -> list[str]:
    """Returns the client columns that were measured; the kind of the compared metric comes first."""
    kinds = ["shared", "clients"] if results.grid.metric.startswith("shared/") else ["clients", "shared"]
    columns = [f"{kind}/{results.grid.measure}" for kind in kinds]
    return [c for c in columns if any(row.get(c) is not None for row in results.clients)]


def client_means(results: GridResults, column: str) -> dict[tuple[str, str, int], float]:
    """Averages a column of `GridResults.clients` over the seeds, by setting, method and client."""
    found: dict[tuple[str, str, int], list[float]] = {}
    for row in results.clients:
        if row.get(column) is not None and math.isfinite(row[column]):
            found.setdefault((row["setting"], row["method"], row["client"]), []).append(row[column])
    return {key: fmean(values) for key, values in found.items()}
