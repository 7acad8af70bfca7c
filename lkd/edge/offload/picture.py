"""The picture: the metric over what is sent, and over what that weighs."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.figure import Figure

from lkd.edge.offload.point import Point

BOUNDS = {"random": ("0.6", ":"), "oracle": ("0.2", "--")}
"""Color and line of what is no gate."""


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
        path: Of the PNG.
        metric: Which.
        device: Nothing is sent.
        server: Everything is.
        curves: Of each gate.
        operating: Where the budget leads.
        others: Of other arms.
    """
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, of in ((left, "units"), (right, "kb")):
        for number, (name, curve) in enumerate(curves.items()):
            color, line = BOUNDS.get(name, (f"C{number}", "-"))
            points = [device, *curve.values(), server]
            x = [getattr(point, of) for point in points]
            axes.plot(x, [p.metrics[metric] for p in points], line, color=color, label=name, linewidth=1.4)
        for name, end in (("device-only", device), ("server-only", server)):
            axes.axhline(end.metrics[metric], color="0.8", linewidth=0.8, zorder=0)
            axes.plot(getattr(end, of), end.metrics[metric], "ks", markersize=5)
            axes.annotate(name, (getattr(end, of), end.metrics[metric]), xytext=(0, 6), textcoords="offset points",
                          fontsize=8, ha="left" if end is device else "right")  # fmt: skip
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
    left.set_xlabel("share of the units that are sent")
    right.set_xlabel("kB a sample, in the mean over all samples")
    left.set_ylabel(metric)
    left.legend(fontsize=8)
    figure.savefig(path, dpi=120)
