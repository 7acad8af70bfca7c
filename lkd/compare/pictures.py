"""The pictures of a comparison, as SVG."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from lkd.compare.axes import focus, legend, places, same_limits, scale, wrapped
from lkd.compare.results import GridResults
from lkd.compare.svg import INK, look, new_figure, style, to_svg
from lkd.metrics.tables import Row

AXES = {
    "bytes": ("bytes that have traveled, up and down, all clients", "B"),
    "seconds": ("seconds of training on this machine", ""),
    "flops": ("FLOPs of training (2 per MAC)", ""),
}


def over(results: GridResults, rows: Sequence[Row], x: str, folder: Path) -> str:
    """Draws the metric over a cost, a panel for each setting; a band shows the deviation over the seeds.

    A baseline over bytes, and a method that was measured only once, is a horizontal line.

    Args:
        results: Results of the runs.
        rows: Their summary.
        x: The cost: `"bytes"`, `"seconds"` or `"flops"`.
        folder: Folder for the picture's files.

    Returns:
        The picture as SVG.
    """
    grid, (label, unit) = results.grid, AXES[x]
    metric = results.label(grid.metric)
    ends = {(row["setting"], row["method"]): row[grid.metric] for row in rows}
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    curves = [row for row in results.curves if row[grid.metric] is not None]
    with style():
        figure, axes = new_figure(len(settings), legend=len(grid.methods))
        for setting, ax in zip(settings, axes, strict=True):
            drawn, lines = [], [] if grid.target is None else [grid.target]
            for place, (method, chosen) in enumerate(grid.methods.items()):
                mine = [r for r in curves if (r["setting"], r["method"]) == (setting, method)]
                name = f"{method} (baseline)" if chosen.baseline else method
                if points := mean_curve(mine, x, grid.metric):
                    _curve(ax, points, place, name)
                    drawn.append([(at, value) for at, value, _ in points])
                elif (end := ends.get((setting, method))) is not None:
                    ax.axhline(end, color=look(place)["color"], linestyle="--", linewidth=1.3, label=name)
                    lines.append(end)
            if grid.target is not None:
                ax.axhline(
                    grid.target, color=INK, linewidth=1.2, linestyle=":", label=f"target {grid.target:g}"
                )
            scale(ax, unit, drawn)
            focus(ax, drawn, lines)
            ax.set(xlabel=label, ylabel=wrapped(metric), title=setting)
        same_limits(axes, "y")
        legend(figure, axes)
        alt = f"{metric}, over {label}: a line for each method, its mean over the seeds"
        return to_svg(figure, f"over-{x}", alt, folder)


def over_energy(results: GridResults, rows: Sequence[Row], folder: Path) -> str:
    """Draws the metric at the end over the estimated energy of the whole run, a point for each method."""
    from matplotlib.ticker import MaxNLocator

    grid, metric = results.grid, results.label(results.grid.metric)
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    with style():
        figure, axes = new_figure(len(settings), legend=len(grid.methods))
        for setting, ax in zip(settings, axes, strict=True):
            for place, method in enumerate(grid.methods):
                for row in rows:
                    here = (row["setting"], row["method"]) == (setting, method)
                    if here and row["energy_wh"] is not None and row[grid.metric] is not None:
                        ax.plot(row["energy_wh"], row[grid.metric], linestyle="", label=method, **look(place))
            ax.xaxis.set_major_locator(MaxNLocator(5))
            ax.set(
                xlabel="Wh of the whole run, estimated (codecarbon)", ylabel=wrapped(metric), title=setting
            )
        legend(figure, axes)
        alt = f"{metric}, over estimated energy: a point for each method"
        return to_svg(figure, "over-energy", alt, folder)


def over_settings(results: GridResults, rows: Sequence[Row], folder: Path) -> str:
    """Draws the metric over the settings, a line for each method, with the deviation over the seeds."""
    grid, metric = results.grid, results.label(results.grid.metric)
    label, at = places(list(grid.settings))
    with style():
        figure, (ax,) = new_figure(1, legend=len(grid.methods))
        for place, (method, chosen) in enumerate(grid.methods.items()):
            mine = [r for r in rows if r["method"] == method and r[grid.metric] is not None]
            if mine:
                ax.errorbar(
                    [at[r["setting"]] for r in mine],
                    [r[grid.metric] for r in mine],
                    [r[f"{grid.metric} deviation"] or 0.0 for r in mine],
                    linestyle="--" if chosen.baseline else "-",
                    capsize=2,
                    markersize=5,
                    label=method,
                    **look(place),
                )
        if min(at.values()) > 0 and max(at.values()) > 50 * min(at.values()):
            ax.set_xscale("log")
            ax.minorticks_off()
        ax.set_xticks(list(at.values()), [name.removeprefix(label).strip() for name in at])
        ax.set(xlabel=label or "setting", ylabel=wrapped(metric))
        legend(figure, [ax])
        return to_svg(figure, "settings", f"{metric}, over the settings: a line for each method", folder)


def mean_curve(rows: Sequence[Row], x: str, y: str) -> list[tuple[float, float, float]]:
    """Averages over the seeds, for each round that all have; gives x, y, and the deviation of y (0 for one).

    Example:
        >>> rows = [{"seed": s, "round": 1, "bytes": 10, "acc": a} for s, a in ((0, 0.5), (1, 0.7))]
        >>> [(x, round(y, 3), round(d, 3)) for x, y, d in mean_curve(rows, "bytes", "acc")]
        [(10.0, 0.6, 0.141)]
    """
    seeds = len({row["seed"] for row in rows})
    points = []
    for _, same in groupby(sorted(rows, key=lambda r: r["round"]), key=lambda r: r["round"]):
        here = list(same)
        if len(here) == seeds and all(row[x] is not None for row in here):
            ys = [row[y] for row in here]
            points.append((fmean(row[x] for row in here), fmean(ys), stdev(ys) if seeds > 1 else 0.0))
    return points


def _curve(ax: Any, points: Sequence[tuple[float, float, float]], place: int, label: str) -> None:
    x, y, deviation = zip(*points, strict=True)
    chosen = look(place)
    ax.plot(x, y, markersize=4, linewidth=1.5, label=label, **chosen)
    if any(deviation):
        low, high = ([v + sign * d for v, d in zip(y, deviation, strict=True)] for sign in (-1, 1))
        ax.fill_between(x, low, high, color=chosen["color"], alpha=0.15, linewidth=0)
