"""Pictures of a run: detections side by side, and curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import draw_bounding_boxes

COLOURS = {"Truth": "#2ecc71", "Teacher": "#3498db", "Student": "#f39c12"}
"""One colour a role, in every picture."""


def side_by_side(image: Tensor, found: Mapping[str, Tensor], title: str) -> Image.Image:
    """One frame once for each role, with that role's boxes.

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
            drawn = draw_bounding_boxes(pixels, boxes.cpu() * scale, colors=COLOURS.get(role, "red"), width=2)
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
    """Draws what was logged each epoch: losses on the left, metrics (where there are any) on the right.

    Args:
        history: One mapping an epoch, metric name -> value; `epoch` is the x axis.
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
        for name in members:
            points = [(row["epoch"], row[name]) for row in history if name in row]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path)
