"""The picture of docs/result_cache.md: what is kept, what changed, and what a limit gives."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from lkd.edge.reuse import ResultCache, answered_by
from lkd.edge.reuse.change import change, grid

LIMIT, CELLS = 16.0, 64


def draw(path: Path, images: np.ndarray, every: float, rows: Sequence[dict[str, Any]]) -> None:
    """Draws a kept frame, the first of another answer with the cells that changed, and the curve over limits.

    Args:
        path: Where to.
        images: `(N, H, W, 3)` uint8, `every` seconds apart.
        every: Seconds.
        rows: Of the table of whole frames.
    """
    by = answered_by(
        ResultCache(LIMIT, 600.0, CELLS), (("", n * every, image) for n, image in enumerate(images))
    )
    runs = {source: by.count(source) for source in by}
    first = max(
        (n for n in runs if n + runs[n] < len(images) and runs[n] < 600 / every), key=runs.__getitem__
    )
    then = first + runs[first]
    figure, axes = plt.subplots(1, 3, figsize=(15, 3.9), width_ratios=[1, 1, 1.1], layout="constrained")
    for axis, number in zip(axes, (first, then), strict=False):
        axis.imshow(images[number])
        axis.axis("off")
    axes[0].set_title(f"computed, and its answer given {runs[first] - 1} times more")
    axes[1].set_title(f"{(then - first) * every:.0f} s later: cells that changed by more than {LIMIT:g}")
    changes, _ = change(grid(images[first], CELLS), grid(images[then], CELLS))
    side = images.shape[2] / changes.shape[1]
    for y, x in np.argwhere(changes > LIMIT):
        axes[1].add_patch(Rectangle((x * side, y * side), side, side, fill=False, color="red", linewidth=1.2))
    limits = [row["distance"] for row in rows]
    axes[2].plot(limits, [row["reused"] for row in rows], "o-", label="frames reused")
    axes[2].plot(limits, [row["occupancy"] for row in rows], "s-", label="occupancy, with reuse")
    axes[2].plot(limits, [row["without"] for row in rows], "--", color="gray", label="occupancy, without")
    axes[2].plot(limits, [row["mAP50"] for row in rows], "^-", label="mAP50, with reuse")
    axes[2].plot(limits, [row["mAP50 without"] for row in rows], ":", color="gray", label="mAP50, without")
    axes[2].set(
        xscale="log", xlabel="distance, in levels of 255", ylim=(0, 1.02), xticks=limits, xticklabels=limits
    )
    axes[2].minorticks_off()
    axes[2].legend(loc="lower right", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=75)
