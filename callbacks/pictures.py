"""Pictures of a run: detections side by side, and curves over epochs or rounds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import draw_bounding_boxes

COLORS = {"Truth": "#2ecc71", "Teacher": "#3498db", "Student": "#f39c12"}
"""One color for each role, in every picture."""


def side_by_side(image: Tensor, found: Mapping[str, Tensor], title: str) -> Image.Image:
    """Draws one frame several times side by side, with the boxes of one role in each.

    Args:
        image: (3, H, W) RGB in [0, 1].
        found: Role -> boxes (N, 4) xyxy in pixels.
        title: Printed above, before the name of each role.

    Returns:
        The panels from left to right.

    Example:
        >>> side_by_side(torch.zeros(3, 20, 30), {"Truth": torch.zeros(0, 4)}, "C1").size
        (240, 182)
    """
    scale = max(1, round(240 / image.shape[2]))
    pixels = (image.clamp(0, 1) * 255).to(torch.uint8).cpu()
    pixels = pixels.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    panels = []
    for role, boxes in found.items():
        drawn = pixels
        if len(boxes):
            drawn = draw_bounding_boxes(pixels, boxes.cpu() * scale, colors=COLORS.get(role, "red"), width=2)
        panel = Image.new("RGB", (drawn.shape[2], drawn.shape[1] + 22), "white")
        panel.paste(to_pil_image(drawn), (0, 22))
        ImageDraw.Draw(panel).text(
            (4, 3), f"{title} {role}: {len(boxes)}", fill="black", font=ImageFont.load_default(14)
        )
        panels.append(panel)
    sheet = Image.new("RGB", (sum(p.width for p in panels), panels[0].height), "white")
    for i, panel in enumerate(panels):
        sheet.paste(panel, (i * panel.width, 0))
    return sheet


def curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draws what was logged in each epoch: losses on the left, metrics (where there are any) on the right.

    Args:
        history: One mapping for each epoch, metric name -> value; `epoch` is the x axis.
        path: The PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = sorted({n for row in history for n in row if n != "epoch"})
    losses = [n for n in names if n.startswith(("train/", "distillation/"))]
    metrics = [n for n in names if n.startswith("val/") and n.count("/") == 1]
    groups = [g for g in (("loss", losses), ("validation", metrics)) if g[1]]
    if not groups:
        return
    figure = Figure(figsize=(5.2 * len(groups), 3.6), layout="constrained")
    for i, (label, members) in enumerate(groups):
        axes = figure.add_subplot(1, len(groups), i + 1)
        _lines(axes, history, "epoch", members)
        axes.set_ylabel(label)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path)


def over_rounds(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draws losses, other metrics and cache rates in rows, over rounds on the left, over bytes on the right.

    Args:
        history: One mapping for each round: `round`, `bytes` that have traveled so far, `failures` of
            clients, which are marked, and metric name -> value.
        path: The PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    names = sorted({n for row in history for n in row if "/" in n})
    losses = [n for n in names if n.endswith("loss")]
    metrics = [n for n in names if n.startswith("val/") and n not in losses]
    shares = [n for n in names if n in ("cache/hit_rate", "cache/acc_hits", "cache/acc_misses")]
    groups = [g for g in (("loss", losses), ("validation", metrics), ("share", shares)) if g[1]]
    if not groups:
        return
    figure = Figure(figsize=(10.4, 3.6 * len(groups)), layout="constrained")
    for i, (label, members) in enumerate(groups):
        for j, x in enumerate(("round", "bytes")):
            axes = figure.add_subplot(len(groups), 2, 2 * i + j + 1)
            _lines(axes, history, x, members)
            axes.set_ylabel(label)
            failed = [row[x] for row in history if row.get("failures")]
            if failed:  # at the bottom of the axes, whatever their scale
                foot = axes.get_xaxis_transform()
                axes.plot(
                    failed, [0.02] * len(failed), "rx", transform=foot, clip_on=False, label="a client failed"
                )
                axes.legend(fontsize=8)
            if x == "bytes":
                axes.xaxis.set_major_formatter(EngFormatter(unit="B"))
            else:
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path)


def _lines(axes: Any, history: Sequence[Mapping[str, float]], x: str, names: Sequence[str]) -> None:
    for name in names:
        points = [(row[x], row[name]) for row in history if name in row]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
    axes.set_xlabel(x)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
