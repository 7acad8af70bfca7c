"""What other ways of resizing frames do to an exported detector: python benchmarks/resizing.py STUDENT.onnx FOLDER."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from lkd.edge import Exported
from lkd.edge.predict.prepare import Preparation
from lkd.edge.predict.sources import open_source
from lkd.metrics.tables import to_markdown

EVERY, SURE, NEAR = 5, 0.25, 4.0


def ways() -> dict[str, Callable[[np.ndarray, tuple[int, int]], np.ndarray]]:
    """Functions of a picture (H, W, 3) and a size (w, h)."""

    def pillow(gap: float | None) -> Callable[[np.ndarray, tuple[int, int]], np.ndarray]:
        bilinear = Image.Resampling.BILINEAR
        return lambda image, size: np.asarray(Image.fromarray(image).resize(size, bilinear, reducing_gap=gap))

    found = {f"Pillow, reducing_gap={gap}": pillow(gap) for gap in (None, 1.5, 1.0)}
    try:
        import cv2
    except ImportError:
        return found
    cv2.setNumThreads(1)
    for name in ("INTER_AREA", "INTER_LINEAR"):
        kind = getattr(cv2, name)
        found[f"OpenCV, {name}"] = lambda image, size, kind=kind: cv2.resize(image, size, interpolation=kind)
    return found


def main(path: str, folder: str) -> None:
    """Prints a row for each way; the first one is what the others are compared with."""
    student = Exported(path)
    prepare = Preparation(student.spec["inputs"][0], path)
    rows = {name: {"resizing": name, "ms": [], "boxes": 0, "found again": 0} for name in ways()}
    for frame in open_source([folder], EVERY):
        (h, w), _ = prepare.sizes(*frame.image.shape[:2])
        wanted: np.ndarray | None = None
        for name, resize in ways().items():
            begin = time.process_time()
            small = resize(frame.image, (w, h))
            rows[name]["ms"].append(1000 * (time.process_time() - begin))
            (found,) = student(prepare(small)[0])
            boxes = found["boxes"][found["scores"] > SURE]
            wanted = boxes if wanted is None else wanted
            far = np.abs(wanted[:, None] - boxes[None]).max(2)
            rows[name]["boxes"] += len(boxes)
            rows[name]["found again"] += int((far.min(1, initial=np.inf) < NEAR).sum())
    print(to_markdown([{**row, "ms": float(np.median(row["ms"]))} for row in rows.values()]))


if __name__ == "__main__":
    main(*map(str, map(Path, sys.argv[1:3])))
