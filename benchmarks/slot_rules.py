"""Which rule says best from boxes of cars whether a slot is busy: measured where the truth is known.

    python benchmarks/slot_rules.py --cnrpark data/cnrpark_ext --pklot data/pklot --weights data/weights/yolo11n.pt

Boxes are those of PKLot's car masks (no detector's mistakes in them), of a detector on PKLot and on CNRPark-EXT, and of the drawn
parking world (exact). A rule gives each pair of box and slot a score; a slot is busy if the score of the box that it is given
reaches a threshold. Boxes are given to slots freely (each slot takes its best one, so one box may fill several slots), greedily, or
with the largest sum. Prints, as a Markdown table, the balanced accuracy at the best threshold, and between which thresholds it is
within .01 of that; last, with one threshold for all, the worst of the four. Thresholds are tuned on the figures that are printed; a
wide range says that one needs no tuning.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F

from lkd.datamodules import ParkingWorld
from lkd.datamodules.detection.cnrpark_layout import LABEL_FILES, full_frames, label_file
from lkd.datamodules.detection.formats.car_masks import cut_cars, read_mask
from lkd.datamodules.detection.formats.yolo_labels import read_yolo
from lkd.datamodules.detection.pklot import read_slots
from lkd.datamodules.io.files import find
from lkd.datamodules.io.pictures import read_image
from lkd.edge.predict.parking.fill import greedily
from lkd.edge.predict.parking.overlap import area, within
from lkd.edge.predict.parking.slots import Slots
from lkd.modules import Detector
from lkd.slot_labels import read_patches
from lkd.slot_maps import read_spaces

Array = np.ndarray
VEHICLES = {2: 0, 5: 0, 7: 0}  # COCO's car, bus and truck


class View(NamedTuple):
    """A picture: its slots, boxes of cars, and which slots are busy."""

    slots: Slots
    boxes: Array  # (N, 4) pixels
    busy: dict[str, bool]


def boxes_of(slots: Slots) -> Array:
    """Axis-aligned boxes (S, 4) round the slots."""
    return np.concatenate([slots.polygons.min(1), slots.polygons.max(1)], 1)


def sides(boxes: Array) -> Array:
    """Areas of boxes (N, 4)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def lower(boxes: Array, share: float) -> Array:
    """The lower part of boxes, where a car stands on the ground."""
    return np.stack([boxes[:, 0], boxes[:, 3] - share * (boxes[:, 3] - boxes[:, 1]), *boxes[:, 2:].T], 1)


def cover(slots: Slots, boxes: Array) -> Array:
    """Share of the slot that the box covers."""
    return within(slots.polygons, boxes) / area(slots.polygons)


def inside(slots: Slots, boxes: Array) -> Array:
    """Share of the box that lies in the slot."""
    return within(slots.polygons, boxes) / sides(boxes)[:, None]


def union(slots: Slots, boxes: Array) -> Array:
    """IoU of the box with the slot."""
    common = within(slots.polygons, boxes)
    return common / (area(slots.polygons) + sides(boxes)[:, None] - common)


def box_union(slots: Slots, boxes: Array) -> Array:
    """IoU of the box with the box round the slot."""
    around = boxes_of(slots)
    corners = np.stack([around[:, [0, 1]], around[:, [2, 1]], around[:, [2, 3]], around[:, [0, 3]]], 1)
    common = within(corners, boxes)
    return common / (sides(around) + sides(boxes)[:, None] - common)


def point(height: float) -> Callable[[Slots, Array], Array]:
    """How deep the box' middle, at a share of its height from below, lies in the slot: a small box round it."""

    def rule(slots: Slots, boxes: Array) -> Array:
        middle = np.stack([boxes[:, ::2].mean(1), boxes[:, 3] - height * (boxes[:, 3] - boxes[:, 1])], 1)
        half = 0.1 * (boxes[:, 2:] - boxes[:, :2])
        spot = np.concatenate([middle - half, middle + half], 1)
        return within(slots.polygons, spot) / sides(spot)[:, None]

    return rule


RULES: dict[str, Callable[[Slots, Array], Array]] = {
    "share of the slot covered": cover,
    "share covered by the box' lower half": lambda slots, boxes: cover(slots, lower(boxes, 0.5)),
    "share covered by the box' lower 3/4": lambda slots, boxes: cover(slots, lower(boxes, 0.75)),
    "share of the box in the slot": inside,
    "the larger of both shares": lambda slots, boxes: np.maximum(cover(slots, boxes), inside(slots, boxes)),
    "IoU with the slot": union,
    "IoU with the box round the slot": box_union,
    "middle of the box in the slot": point(0.5),
    "point at 1/4 of its height in the slot": point(0.25),
    "lower edge's middle in the slot": point(0.0),
}


def freely(scores: Array) -> Array:
    """Each slot's best score, though one box may serve several slots."""
    return scores.max(0, initial=0.0)


def by_sum(scores: Array) -> Array:
    """Scores of the boxes that slots are given so that their sum is largest."""
    given = np.zeros(scores.shape[1])
    rows, columns = linear_sum_assignment(scores, maximize=True)
    given[columns] = scores[rows, columns]
    return given


GIVEN = {"freely": freely, "greedily": greedily, "by sum": by_sum}


def masked(root: Path) -> Iterator[View]:
    """PKLot with the boxes of its masks."""
    for path in sorted(root.glob("*/masks/*.png")):
        xml = path.parents[1] / "bounding_boxes" / f"{path.stem}.xml"
        cars, slots = cut_cars(read_mask(path), read_slots(xml)), Slots.read(xml)
        yield View(slots, cars.boxes.numpy() * np.tile(slots.size, 2), states(xml))


def states(xml: Path) -> dict[str, bool]:
    """What a file of PKLot says of its slots."""
    return {space.name: space.busy for space in read_spaces(xml) if space.busy is not None}


def detected(detector: Detector, path: Path, score: float = 0.25) -> Array:
    """A detector's boxes (N, 4) on a picture as it is, padded to whole strides."""
    image = read_image(path).float() / 255
    padding = [-image.shape[2] % 32, -image.shape[1] % 32]
    padded = F.pad(image, (0, padding[0], 0, padding[1]), value=114 / 255)
    with torch.inference_mode():
        (found,) = detector.detect(padded[None])
    return found["boxes"][found["scores"] > score].double().numpy()


def pklot(root: Path, detector: Detector) -> Iterator[View]:
    """PKLot with a detector's boxes."""
    for path in sorted(root.glob("*/frames/*.jpg")):
        xml = path.parents[1] / "bounding_boxes" / f"{path.stem}.xml"
        yield View(Slots.read(xml), detected(detector, path), states(xml))


def cnrpark(root: Path, find_boxes: Callable[[Path], Array] | None) -> Iterator[View]:
    """CNRPark-EXT, or a world in its layout, with a detector's boxes or the tight ones that are there."""
    busy: dict[tuple[str, str], dict[str, bool]] = {}
    for patch in read_patches(find(root, LABEL_FILES)[0]):
        busy.setdefault((patch.camera, patch.time), {})[str(patch.slot)] = patch.label == 1
    for frame in full_frames(root):
        height, width = read_image(frame.path).shape[1:]
        slots = Slots.read(root / f"camera{frame.camera[1:]}.csv", (width, height))
        if find_boxes is not None:
            boxes = find_boxes(frame.path)
        else:
            boxes = read_yolo(label_file(root, frame))[0].double().numpy() * np.tile(slots.size, 2)
        yield View(slots, boxes, busy.get((frame.camera, frame.time), {}))


def world(folder: str) -> list[View]:
    """Nine drawn car parks."""
    data = ParkingWorld(folder, frames=6, size=(640, 480))
    data.prepare_data()
    return list(cnrpark(Path(folder), None))


THRESHOLDS = np.linspace(0.02, 0.98, 49)


def balanced(scores: Array, busy: Array) -> Array:
    """Balanced accuracy at each threshold."""
    says = scores[None] >= THRESHOLDS[:, None]
    return ((says & busy).sum(1) / busy.sum() + (~says & ~busy).sum(1) / (~busy).sum()) / 2


def best(figures: Array) -> str:
    """The best figure, and the thresholds at which it is within .01 of that."""
    good = THRESHOLDS[figures >= figures.max() - 0.01]
    return f"{figures.max():.3f} ({good.min():.2f} to {good.max():.2f})"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cnrpark", type=Path, default=Path("data/cnrpark_ext"))
    parser.add_argument("--pklot", type=Path, default=Path("data/pklot"))
    parser.add_argument("--weights", default="data/weights/yolo11n.pt")
    options = parser.parse_args()
    detector = Detector(network=options.weights, class_map=VEHICLES).eval()
    with tempfile.TemporaryDirectory() as folder:
        data = {
            "masks of PKLot": list(masked(options.pklot)),
            "detector on PKLot": list(pklot(options.pklot, detector)),
            "detector on CNRPark-EXT": list(cnrpark(options.cnrpark, lambda path: detected(detector, path))),
            "drawn world": world(folder),
        }
    print({name: (len(views), sum(len(view.busy) for view in views)) for name, views in data.items()})
    rows = []
    for rule, score in RULES.items():
        for way, given in GIVEN.items():
            cells: dict[str, str] = {"rule": rule, "boxes are given": way}
            worst = np.ones(len(THRESHOLDS))
            for name, views in data.items():
                scores, truth = [], []
                for view in views:
                    each = dict(zip(view.slots.names, given(score(view.slots, view.boxes)), strict=True))
                    scores += [each[slot] for slot in view.busy]
                    truth += view.busy.values()
                figures = balanced(np.array(scores), np.array(truth))
                cells[name], worst = best(figures), np.minimum(worst, figures)
            cells["worst of these at one threshold"] = (
                f"{worst.max():.3f} (at {THRESHOLDS[worst.argmax()]:.2f})"
            )
            rows.append(cells)
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    print("\n".join("| " + " | ".join(row.values()) + " |" for row in rows))


if __name__ == "__main__":
    main()
