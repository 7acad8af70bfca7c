"""The picture of a report: the metric over what is sent, its bytes and the counted work of devices."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from math import isnan
from pathlib import Path

from matplotlib.figure import Figure

from lkd.edge.offload.point import Point

BOUNDS = {"random": ("0.6", ":"), "oracle": ("0.2", "--")}
"""Color and line of points that belong to no gate."""
DECADES = 100
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""
OVER = (
    ("units", "share of the units that are sent"),
    ("kb", "kB a sample, in the mean over all samples"),
    ("mmacs", "million multiply-accumulates of the device a sample"),
)


def picture(
    path: Path,
    metric: str,
    device: Point,
    server: Point,
    curves: Mapping[str, Mapping[float, Point]],
    operating: Point | None,
    others: Sequence[Point] = (),
) -> None:
    """Draws all points.

    Args:
        path: The PNG to write.
        metric: Name of the metric.
        device: Point at which nothing is sent.
        server: Point at which everything is sent.
        curves: Curves of the gates.
        operating: Point that the budget leads to.
        others: Points of other arms.
    """
    counted = not all(isnan(point.mmacs) for point in others)
    shown_over = OVER if counted else OVER[:2]
    figure = Figure(figsize=(5.5 * len(shown_over), 4.8), layout="constrained")
    panels = figure.subplots(1, len(shown_over), sharey=True)
    every = [device, server, *(p for curve in curves.values() for p in curve.values()), *others]
    for axes, (of, words) in zip(panels, shown_over, strict=True):
        axes.set_xlabel(words)
        if of != "units" and (least := _decades([getattr(point, of) for point in every])):
            axes.set_xscale("symlog", linthresh=least, linscale=0.4)
        for number, (name, curve) in enumerate(curves.items()):
            color, line = BOUNDS.get(name, (f"C{number}", "-"))
            points = [device, *curve.values(), server]
            x = [getattr(point, of) for point in points]
            axes.plot(x, [p.metrics[metric] for p in points], line, color=color, label=name, linewidth=1.4)
        for name, end in (("device-only", device), ("server-only", server)):
            axes.axhline(end.metrics[metric], color="0.8", linewidth=0.8, zorder=0)
            axes.plot(getattr(end, of), end.metrics[metric], "ks", markersize=5)
            axes.annotate(name, (getattr(end, of), end.metrics[metric]), xytext=(0, -12), textcoords="offset points",
                          fontsize=8, ha="right" if end is server and of != "mmacs" else "left")  # fmt: skip
        for name, group in groupby(others, key=lambda point: point.arm):
            shown = [p for p in group if metric in p.metrics]
            axes.plot(
                [getattr(p, of) for p in shown],
                [p.metrics[metric] for p in shown],
                "D",
                label=name,
                markersize=5,
            )
        if operating is not None:
            axes.plot(
                getattr(operating, of),
                operating.metrics[metric],
                "r*",
                markersize=13,
                label=f"operating: {operating.arm}",
            )
    panels[0].set_ylabel(metric)
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=120)


def _decades(values: Sequence[float]) -> float | None:
    """Returns the smallest value above 0 if the largest is over a hundred times as large, else None.

    An axis is linear below it, since nothing sent is 0, and logarithmic above.

    Example:
        >>> _decades([0.0, 0.006, 1.4]), _decades([0.0, 10.0, 50.0])
        (0.006, None)
    """
    above = [value for value in values if value > 0]
    return min(above) if above and max(above) > DECADES * min(above) else None
