"""A camera with its lot: drawn anew until it sees a fair number of slots."""

import re
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lkd.datamodules.world.camera import NEAR, Camera
from lkd.datamodules.world.lot import SLOT, Lot, make_lot
from lkd.datamodules.world.seeds import CAMERA, stream

Array = NDArray[np.float64]
OVER = 2  # everything is drawn OVER times larger, then averaged down
FEWEST, MOST = 12, 45  # slots in a camera
HEIGHTS = (4.5, 11.0)  # meters above the ground at which cameras of car parks hang


@dataclass(frozen=True)
class CameraView:
    """What a camera of this name sees.

    Args:
        name: name of the camera.
        camera: the camera, in pixels of the oversampled picture.
        lot: the ground that it looks at.
        listed: rows of `lot.slots` that are well inside the picture.
        boxes: boxes of the listed slots, xyxy in [0, 1], (len(listed), 4).
        tint: RGB of dry asphalt.
        heights: range that the camera's height was drawn from.
    """

    name: str
    camera: Camera
    lot: Lot
    listed: tuple[int, ...]
    boxes: Array
    tint: tuple[float, float, float]
    heights: tuple[float, float] = HEIGHTS

    @property
    def slot_ids(self) -> list[int]:
        """Ids of the listed slots; no two cameras have the same."""
        return [number(self.name) * 100 + i for i in range(1, len(self.listed) + 1)]


def number(name: str) -> int:
    """Returns the number in a camera's name: 3 for "C3".

    Raises:
        ValueError: if the name is not of that form.

    Example:
        >>> number("C3")
        3
    """
    match = re.fullmatch(r"C([1-9]\d{0,2})", name)
    if not match:
        raise ValueError(f"camera {name!r} must be C and a number from 1 to 999, like C3.")
    return int(match[1])


@lru_cache(maxsize=32)
def make_view(
    seed: int, name: str, size: tuple[int, int], heights: tuple[float, float] = HEIGHTS
) -> CameraView:
    """Makes camera `name` of world `seed` for pictures of `size` (width, height), at one of `heights`."""
    rng = stream(seed, name, 0, CAMERA)
    side = 1 if number(name) % 2 else -1
    gray = rng.uniform(82, 118)
    tint = (gray * rng.uniform(0.96, 1.07), gray, gray * rng.uniform(0.92, 1.06))
    fewest = int(rng.integers(FEWEST, 28))  # drawn, so that large and small lots occur alike
    while True:
        focal, upper = (
            rng.uniform(0.72, 1.25),
            np.deg2rad(rng.uniform(-2, 9)),
        )  # upper edge: below the horizon
        base = Camera(
            height=rng.uniform(*heights),
            tilt=upper + np.arctan(0.375 / focal),
            pan=side * np.deg2rad(rng.uniform(0, 1) ** 1.5 * 38),
            roll=np.deg2rad(rng.normal(0, 1.5)),
            focal=focal,
            width=480,
            height_px=360,
        )
        lowest = base.tilt + np.arctan(0.375 / base.focal)
        lot = make_lot(rng, base.height / np.tan(lowest) * np.cos(base.pan))
        listed, boxes = _in_view(base, lot)
        large = boxes[:, 2] - boxes[:, 0] if len(boxes) else np.zeros(0)
        if fewest <= len(listed) <= MOST and np.median(large) > 0.05 and large.max() < 0.5:
            break
    camera = replace(base, width=size[0] * OVER, height_px=size[1] * OVER)
    # one geometry for all sizes: sizes of another aspect see more or less at the top and bottom
    listed, boxes = _in_view(camera, lot)
    return CameraView(name, camera, lot, tuple(listed), boxes, tint, heights)


def _in_view(camera: Camera, lot: Lot) -> tuple[list[int], Array]:
    """Returns the slots that are well inside the picture and not tiny, and their boxes in [0, 1]."""
    heading = lot.slots[:, 2]
    along, across = np.stack([np.cos(heading), np.sin(heading)], -1), SLOT * 0.4
    aside = np.stack([-along[:, 1], along[:, 0]], -1)
    corners = [
        np.concatenate(
            [lot.slots[:, :2] + a * 2.1 * along + b * across * aside, np.full((len(heading), 1), z)], -1
        )
        for a in (-1, 1)
        for b in (-1, 1)
        for z in (0.0, 1.4)
    ]
    pixels, depth = camera.project(np.stack(corners, 1))
    pixels = pixels / np.array([camera.width, camera.height_px])
    whole = np.concatenate([pixels.min(1), pixels.max(1)], -1)
    boxes = whole.clip(0, 1)
    kept = np.prod(boxes[:, 2:] - boxes[:, :2], -1) / np.prod(whole[:, 2:] - whole[:, :2], -1)
    fits = (depth.min(1) > NEAR) & (kept > 0.75) & ((boxes[:, 2:] - boxes[:, :2]).min(-1) > 0.025)
    rows = np.flatnonzero(fits)[:99]  # ids have two digits for the slot
    return [int(row) for row in rows], boxes[rows]
