"""What reuse of earlier answers saves and costs, by the limit of what may have changed.

    python benchmarks/result_cache.py --student runs/traffic_oracle/export/student.onnx --folder runs/result_cache

Tables in Markdown: six real traffic cameras, where cars move; the slots of PKLot's real sequences, frames minutes to hours apart, each
slot a scene of its own; drawn car parks that are looked at every half minute (three cameras of three weathers, 100 minutes each),
whole frames and slots. The student is that of the traffic cameras, which has seen no car park. All frames are computed, the drawn
ones once in `--folder`, so that a row says what reuse would have given in their place.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parking_sequence import SIZE, shots
from result_cache_picture import draw

from lkd.datamodules import YoloFolder
from lkd.datamodules.detection.formats.yolo_labels import read_yolo
from lkd.datamodules.samples.splits import by_time
from lkd.datamodules.world.view import make_view
from lkd.edge import Exported
from lkd.edge.matching import matched
from lkd.edge.predict.frame import Frame
from lkd.edge.predict.parking import Occupancy, OccupancyScore, Slots, Truth
from lkd.edge.predict.parking.overlap import rectangle, stacked
from lkd.edge.predict.predictor import Predictor
from lkd.edge.predict.reuse.moments import moment
from lkd.edge.predict.timing import FrameTimes
from lkd.edge.reuse import ResultCache, answered_by
from lkd.metrics import DetectionTable
from lkd.metrics.tables import to_markdown
from lkd.pictures import pixels
from lkd.slot_maps import read_spaces

Found = dict[str, np.ndarray]
EVERY, WEATHERS = 30.0, {"C1": 1, "C2": 7, "C3": 13}  # a rainy, a sunny, an overcast day
TTL, SLOT_CELLS = 600.0, 8
Scene = tuple[Sequence[float], Sequence[np.ndarray], Sequence[np.ndarray], Any]
"""Times, pictures (H, W, 3), slots (P, 2) in pixels, and whether slot s is busy in frame n, `[n][s]`."""


def kept(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays of a file, made if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, **make())
        part.replace(path)
    return dict(np.load(path))


def flat(rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of several lengths as one, with their lengths."""
    return {"rows": np.concatenate(rows), "lengths": np.array([len(row) for row in rows])}


def apart(rows: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """The arrays that `flat` put together."""
    return np.split(rows, np.cumsum(lengths)[:-1])


def drawn(camera: str, student: Path) -> dict[str, np.ndarray]:
    """A drawn sequence with a student's boxes, and how long those took."""
    predictor = Predictor(Exported(student), student.name)
    clock, taken = FrameTimes(predictor.parts), []
    images, truth, busy, boxes = [], [], [], []
    for number, shot in enumerate(shots(camera, WEATHERS[camera], EVERY)):
        begin = time.process_time()
        found = predictor(Frame(camera, number, shot.seconds, shot.image), clock)
        taken.append(time.process_time() - begin)
        boxes.append(np.column_stack([found["boxes"], found["scores"]]))
        images.append(shot.image)
        truth.append(shot.boxes)
        busy.append([shot.busy[name] for name in sorted(shot.busy)])
    return {
        "images": np.stack(images),
        "busy": np.array(busy),
        "ms": np.array(1000 * np.median(taken)),
        **{f"found_{name}": array for name, array in flat(boxes).items()},
        **{f"truth_{name}": array for name, array in flat(truth).items()},
    }


def percent(share: float, digits: int = 0) -> str:
    """A share as text."""
    return f"{100 * share:.{digits}f} %"


def as_found(rows: np.ndarray) -> Found:
    """Boxes with scores (N, 5) as `predict` has them."""
    return {"boxes": rows[:, :4], "scores": rows[:, 4], "labels": np.zeros(len(rows), np.int64)}


def map50(found: Sequence[Found], truth: Sequence[np.ndarray]) -> float:
    """mAP50 of one class."""
    table = DetectionTable()
    table.update(
        [
            {name: torch.from_numpy(np.ascontiguousarray(rows)).float() for name, rows in one.items()}
            for one in found
        ],
        [
            {"boxes": torch.from_numpy(boxes).float(), "labels": torch.zeros(len(boxes), dtype=torch.int64)}
            for boxes in truth
        ],
    )
    return float(table.compute()[-1]["map50"])


class Lot:
    """A drawn sequence: pictures, answers and what is true."""

    def __init__(self, camera: str, folder: Path, student: Path) -> None:
        data = kept(folder / f"{camera}.npz", lambda: drawn(camera, student))
        self.camera, self.images, self.busy, self.ms = camera, data["images"], data["busy"], float(data["ms"])
        self.found = [as_found(rows) for rows in apart(data["found_rows"], data["found_lengths"])]
        self.truth = apart(data["truth_rows"], data["truth_lengths"])
        view = make_view(0, camera, SIZE)
        polygons = stacked([rectangle(box * np.tile(SIZE, 2)) for box in view.boxes])
        self.slots = Slots(tuple(sorted(map(str, view.slot_ids))), polygons, SIZE, None, camera)
        self.regions = view.boxes
        self.fresh = self.occupancy(range(len(self.images)))

    def pictures(self) -> Iterator[tuple[str, float, np.ndarray]]:
        """Key, seconds, picture."""
        return ((self.camera, number * EVERY, image) for number, image in enumerate(self.images))

    @property
    def scene(self) -> Scene:
        """The slots, each a scene of its own."""
        times = [EVERY * number for number in range(len(self.images))]
        return times, list(self.images), list(self.slots.polygons), self.busy

    def occupancy(self, by: Sequence[int]) -> tuple[float, np.ndarray]:
        """Accuracy, and the states (frames, slots), if frame n is answered by frame `by[n]`."""
        rows = [
            ("", str(number), slot, bool(busy))
            for number, states in enumerate(self.busy)
            for slot, busy in zip(self.slots.names, states, strict=True)
        ]
        occupancy = Occupancy(self.slots, dwell=0.0)
        score, states = OccupancyScore(occupancy, Truth(rows, "frame", self.slots, self.camera)), []
        for number, image in enumerate(self.images):
            frame = Frame(self.camera, number, number * EVERY, image)
            score.add(frame, occupancy.update(frame, self.found[by[number]]))
            states.append(occupancy.busy.copy())
        return float(score.figures()["accuracy"] or 0), np.stack(states)


def frames_of(
    lots: Sequence[Lot], limits: Sequence[float], watch: str, reduce: Any
) -> Iterator[dict[str, Any]]:
    """A row a limit: whole frames."""
    without = map50(
        [one for lot in lots for one in lot.found], [boxes for lot in lots for boxes in lot.truth]
    )
    for limit in limits:
        hits, saved, accuracy, plain, alike, same, of, boxes, truth = 0, [], [], [], [], 0, 0, [], []
        for lot in lots:
            regions = lot.regions if watch == "slots" else None
            cache: ResultCache[int] = ResultCache(limit, TTL, regions=regions, reduce=reduce)
            begin = time.process_time()
            by = answered_by(cache, lot.pictures())
            look = 1000 * (time.process_time() - begin) / len(by)
            reused = [number for number, source in enumerate(by) if source != number]
            hits += len(reused)
            saved.append((len(reused) * lot.ms - len(by) * look) / (len(by) * lot.ms))
            (right, states), (best, fresh) = lot.occupancy(by), lot.fresh
            accuracy.append(right)
            plain.append(best)
            alike.append((states == fresh)[reused].mean() if reused else 1.0)
            for number in reused:
                old, new = lot.found[by[number]], lot.found[number]
                same += 2 * matched(old, new)
                of += len(old["boxes"]) + len(new["boxes"])
            boxes += [lot.found[source] for source in by]
            truth += lot.truth
        yield {
            "distance": limit,
            "watched": watch,
            "reused": hits / len(truth),
            "CPU time saved": percent(np.mean(saved)),
            "boxes' F1, reused to fresh": same / of if of else None,
            "slots alike": float(np.mean(alike)),
            "occupancy": float(np.mean(accuracy)),
            "without": float(np.mean(plain)),
            "mAP50": map50(boxes, truth),
            "mAP50 without": without,
        }  # fmt: skip


def slot_row(limit: float, ttl_s: float, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Each slot a scene of its own: how many looks are answered by an earlier one, and how many of these are of another state."""
    looks = hits = wrong = changed = 0
    for times, images, polygons, busy in scenes:
        for slot, polygon in enumerate(polygons):
            (left, top), (right, bottom) = (
                polygon.min(0).clip(0).astype(int),
                np.ceil(polygon.max(0)).astype(int),
            )
            crops = [image[top:bottom, left:right] for image in images]
            by = answered_by(
                ResultCache(limit, ttl_s, SLOT_CELLS),
                [("slot", t, crop) for t, crop in zip(times, crops, strict=True)],
            )
            known = [busy[number][slot] for number in range(len(by))]
            looks += len(by)
            hits += sum(source != number for number, source in enumerate(by))
            wrong += sum(known[source] != known[number] for number, source in enumerate(by))
            changed += sum(a != b for a, b in pairwise(known))
    return {
        "distance": limit,
        "looks at a slot": looks,
        "reused": percent(hits / looks),
        "of these of another state": percent(wrong / hits, 2) if hits else None,
        "changes of state": changed,
    }


def pklot(root: Path) -> Iterator[Scene]:
    """PKLot's sequences: times, pictures, polygons, states."""
    for sequence in sorted(root.glob("sequence*")):
        paths = sorted((sequence / "frames").glob("*.jpg"), key=moment)
        spaces = [
            {s.name: s for s in read_spaces(sequence / "bounding_boxes" / f"{p.stem}.xml")} for p in paths
        ]
        names = [
            name for name in spaces[0] if all(name in one and one[name].busy is not None for one in spaces)
        ]
        images = [pixels(path, str(path)) for path in paths]
        polygons = [np.array(spaces[0][name].points, np.float64) for name in names]
        busy = [[one[name].busy for name in names] for one in spaces]
        yield [moment(path)[1] for path in paths], images, polygons, busy


def traffic(root: Path, student: Path) -> Iterator[dict[str, Any]]:
    """A row a limit: six cameras whose cars move, in the order of their frames, ten seconds apart."""
    frames = by_time(YoloFolder(str(root)).frames(), (0.6, 0.0, 0.4))[2]
    predictor = Predictor(Exported(student), student.name)
    images = [pixels(frame.path, str(frame.path)) for frame in frames]
    clock, taken, found, truth = FrameTimes(predictor.parts), [], [], []
    for number, (frame, image) in enumerate(zip(frames, images, strict=True)):
        begin = time.process_time()
        found.append(predictor(Frame(str(frame.path), number, None, image), clock))
        taken.append(1000 * (time.process_time() - begin))
        boxes, labels = read_yolo(root / "labels" / f"{frame.path.stem}.txt")
        cars = boxes[labels < 3].numpy()  # car, bus and truck
        truth.append(cars * np.tile(image.shape[1::-1], 2))
    pictures = [
        (frame.camera, 10.0 * number, image)
        for number, (frame, image) in enumerate(zip(frames, images, strict=True))
    ]
    plain, ms = map50(found, truth), float(np.median(taken))
    for name, reduce, limits in (("largest", np.max, (16, 64, 96, 128)), ("mean", np.mean, (2, 4, 8, 16))):
        for limit in limits:
            begin = time.process_time()
            by = answered_by(ResultCache(limit, TTL, reduce=reduce), pictures)
            look = 1000 * (time.process_time() - begin) / len(by)
            share = np.mean([source != number for number, source in enumerate(by)])
            yield {
                "change of the cells": name,
                "distance": limit,
                "reused": percent(share),
                "CPU time saved": percent(share - look / ms),
                "mAP50": map50([found[source] for source in by], truth),
                "without": plain,
            }


def show(title: str, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Prints a table, and gives its rows."""
    given = list(rows)
    print(f"\n{title}\n\n{to_markdown(given)}", flush=True)
    return given


def main() -> None:
    """Prints the tables and draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--student", type=Path, required=True, help="exported, of configs/traffic/oracle.yaml"
    )
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--folder", type=Path, default=Path("runs/result_cache"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    show("Six real traffic cameras", traffic(options.data / "traffic_cams", options.student))
    real, limits = list(pklot(options.data / "pklot")), (4, 8, 16, 24, 32, 48)
    show("Slots of PKLot, 12 hours", (slot_row(limit, 12 * 3600, real) for limit in limits))
    lots = [Lot(camera, options.folder, options.student) for camera in WEATHERS]
    rows = show("Drawn car parks, largest change", frames_of(lots, (2, *limits), "frame", np.max))
    show("Drawn car parks, largest change, slots watched", frames_of(lots, limits, "slots", np.max))
    show("Drawn car parks, mean change", frames_of(lots, (0.5, 1, 2, 4), "frame", np.mean))
    scenes = [lot.scene for lot in lots]
    show("Slots of the drawn car parks", (slot_row(limit, TTL, scenes) for limit in limits))
    draw(options.folder / "result_cache.png", lots[1].images, EVERY, rows)


if __name__ == "__main__":
    main()
