"""The parking lot of a camera: rows of slots, lanes, grass strips, and what grows on them."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SLOT = 2.5  # width of a slot in meters
DEPTH = 5.0  # depth of a row of slots in meters
REACH = 70.0  # the lot runs from -REACH to REACH meters along its rows


@dataclass
class Lot:
    """The fixed parts of a lot, in meters; x runs along the rows, y away from the camera.

    Args:
        slots: rows (x, y, heading) of every slot, (N, 3).
        grass: ground rectangles (x0, y0, x1, y1).
        lines: painted lines (x0, y0, x1, y1).
        lanes: y of the middle of each lane.
        trees: rows (x, y, height, crown radius, leaves in [0, 1]).
        lamps: rows (x, y, height).
        end: y where the lot ends.
    """

    slots: Array = field(default_factory=lambda: np.zeros((0, 3)))
    grass: list[tuple[float, float, float, float]] = field(default_factory=list)
    lines: list[tuple[float, float, float, float]] = field(default_factory=list)
    lanes: list[float] = field(default_factory=list)
    trees: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    lamps: list[tuple[float, float, float]] = field(default_factory=list)
    end: float = 0.0


def make_lot(rng: np.random.Generator, start: float) -> Lot:
    """Lays strips of road, grass and slots one behind the other.

    Args:
        rng: the camera's generator.
        start: y in meters of the lower edge of the picture, where the strips begin.
    """
    lot, slots, y = Lot(), [], start - 3.0
    angle = np.deg2rad(rng.choice([90.0, 90.0, 90.0, 62.0, 118.0]))
    if rng.random() < 0.6:  # a road along the near edge, cars parked along it, and a verge
        lot.lanes.append(y + 1.5)
        y += 4.0
        slots += _along(lot, rng, y)
        y += 2.6
        y = _verge(lot, rng, y, rng.uniform(1.5, 3.5))
    pairs = int(rng.integers(1, 4))
    for pair in range(pairs):
        slots += _row(lot, rng, y, angle)
        y += DEPTH
        lot.lanes.append(y + 3.4)
        y += 6.8
        slots += _row(lot, rng, y, np.pi - angle)
        y += DEPTH
        if pair == pairs - 1 or rng.random() < 0.6:
            y = _verge(lot, rng, y, rng.uniform(1.5, 4.0))
    if rng.random() < 0.6:  # a public road behind the lot
        lot.lines.append((-REACH, y + 3.4, REACH, y + 3.4))
        lot.lanes += [y + 1.8, y + 5.2]
        y += 7.0
    lot.grass.append((-4 * REACH, y, 4 * REACH, y + 300.0))
    lot.slots, lot.end = np.array(slots), y
    return lot


def _row(lot: Lot, rng: np.random.Generator, y: float, angle: float) -> list[tuple[float, float, float]]:
    """Lays slots side by side in blocks, with a planted island or a zebra-free gap between two blocks."""
    lean, pitch = DEPTH / np.tan(angle), SLOT / np.sin(angle)
    x, end, slots = -rng.uniform(12, 34), rng.uniform(12, 34), []
    while x < end:
        count = int(rng.integers(4, 11))
        for i in range(count):
            slots.append((x + (i + 0.5) * pitch + lean / 2, y + DEPTH / 2, float(angle)))
        lot.lines += [
            (x + i * pitch, y + 0.2, x + i * pitch + lean * 0.96, y + DEPTH - 0.2) for i in range(count + 1)
        ]
        x += count * pitch
        gap = rng.uniform(2.0, 4.0)
        if abs(lean) < 0.1 and rng.random() < 0.6:
            lot.grass.append((x + 0.3, y + 0.3, x + gap - 0.3, y + DEPTH - 0.3))
            lot.trees.append(_tree(rng, x + gap / 2, y + DEPTH / 2))
        x += gap
    return slots


def _along(lot: Lot, rng: np.random.Generator, y: float) -> list[tuple[float, float, float]]:
    """Lays slots one behind the other along the near road."""
    first = -rng.uniform(6, 18)
    lot.lines += [(first + 6.0 * i, y, first + 6.0 * i, y + 2.4) for i in range(7)]
    lot.lines.append((first, y, first + 36, y))
    return [(first + 6.0 * i + 3.0, y + 1.25, 0.0) for i in range(6)]


def _verge(lot: Lot, rng: np.random.Generator, y: float, width: float) -> float:
    """Lays a strip of grass with trees and lamp posts, and returns where it ends."""
    lot.grass.append((-REACH, y, REACH, y + width))
    x = -40.0 + rng.uniform(0, 8)
    while x < 40:
        if rng.random() < 0.6:
            lot.trees.append(_tree(rng, x, y + width * rng.uniform(0.35, 0.65)))
        elif rng.random() < 0.5:
            lot.lamps.append((x, y + width / 2, rng.uniform(4.5, 6.5)))
        x += rng.uniform(6, 13)
    return y + width


def _tree(rng: np.random.Generator, x: float, y: float) -> tuple[float, float, float, float, float]:
    height = rng.uniform(2.6, 5.0)
    return (x, y, height, height * rng.uniform(0.26, 0.38), float(rng.choice([0.1, 0.4, 0.4, 1.0])))
