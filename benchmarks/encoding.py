"""What it costs the device to encode what it sends: python benchmarks/encoding.py FOLDER [--student STUDENT.onnx].

CPU milliseconds on one thread and kB, medians over the pictures of a folder, by format, quality and size; `side` scales the picture down first, which
counts, too. A tile is one of the 5 x 3 of configs/edge/traffic_regions.yaml. All ways take turns on each picture, so that other work on the machine
meets them alike; with `--student` a detector's file takes turns with them, prepared and run as `predict` does.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from lkd.edge import Exported
from lkd.edge.offload import Payload, Tiles
from lkd.edge.predict.frame import Frame
from lkd.edge.predict.predictor import Predictor
from lkd.edge.predict.sources import open_source
from lkd.edge.predict.timing import FrameTimes
from lkd.metrics.tables import to_markdown

WAYS = [("jpeg", 50), ("jpeg", 80), ("jpeg", 95), ("webp", 50), ("webp", 70), ("webp", 90), ("png", None)]
SIDES = (None, 640, 320)
TILES = Tiles(5, 3, overlap=32)
STUDENT = "the student"


def spent(work: Callable[[], object]) -> tuple[float, object]:
    """CPU milliseconds of a call, and what it gave."""
    begin = time.process_time()
    given = work()
    return 1000 * (time.process_time() - begin), given


def encoded(payload: Payload, tiles: Sequence[np.ndarray]) -> list[bytes]:
    """The files of all tiles of a frame."""
    return [payload.encode(tile) for tile in tiles]


def measure(folder: Path, every: int, student: Path | None) -> dict[tuple[str, str], tuple[float, float]]:
    """Medians of milliseconds and kB, by way (`jpeg 80`) and size; of the student 0 kB."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    predictor = Predictor(Exported(student), student.name) if student else None
    for number, frame in enumerate(open_source([str(folder)], every)):
        height, width = frame.image.shape[:2]
        tiles = [frame.image[y1:y2, x1:x2] for x1, y1, x2, y2 in TILES.crops(height, width)]
        for form, quality in WAYS:
            name = f"{form} {quality}" if quality else form
            for side in SIDES:
                payload = Payload(form, quality, side)
                ms, file = spent(partial(payload.encode, frame.image))
                found[name, f"{side or width} px"].append((ms, len(file) / 1e3))
            payload = Payload(form, quality)
            ms, files = spent(partial(encoded, payload, tiles))
            found[name, "a tile"].append((ms / len(tiles), sum(map(len, files)) / 1e3 / len(tiles)))
        if predictor:
            clock = FrameTimes(predictor.parts)
            one = Frame(frame.source, number, None, frame.image)
            found[STUDENT, ""].append((spent(partial(predictor, one, clock))[0], 0.0))
    return {key: tuple(np.median(pairs, 0).tolist()) for key, pairs in found.items()}


def main() -> None:
    """Prints a row a way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--student", type=Path, help="an exported detector, for comparison")
    parser.add_argument("--every", type=int, default=5, help="5 for every fifth picture")
    options = parser.parse_args()
    found = measure(options.folder, options.every, options.student)
    rows: dict[str, dict[str, str]] = defaultdict(dict)
    for (name, size), (ms, kb) in found.items():
        rows[name] |= {f"{size}: ms": f"{ms:.2f}", f"{size}: kB": f"{kb:.1f}"} if size else {}
    print(to_markdown([{"format": name, **row} for name, row in rows.items() if row]))
    if (STUDENT, "") in found:
        print(f"\n{STUDENT}: {found[STUDENT, ''][0]:.1f} ms a picture")


if __name__ == "__main__":
    main()
