"""Boxes of single cars from a mask in which cars touch, cut apart by the slots that they stand on."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy import ndimage
from torch import Tensor

from lkd.datamodules.io.pictures import read_image

Contour = Sequence[tuple[float, float]]  # points (x, y) in pixels
Slice2D = tuple[slice, slice]

# share of its slot that a car covers in the picture (.29 to .92 in the sample, up to .19 of other slots); if
# little of the car can be seen, the share of the car that lies in the slot
COVER = 0.25
LARGE = 1.7  # a single car has at most so many times its slot's size: up to 1.40 were seen, two have 1.79
EIGHT = np.ones((3, 3), dtype=bool)  # pixels that touch at a corner are connected
PARKED, ELSEWHERE = 1, 2


class Cars(NamedTuple):
    """Boxes of the cars in a mask, and how they were found."""

    boxes: Tensor  # (N, 4) float32 xyxy normalized to [0, 1]
    cut: int  # connected parts of the mask that were cut, since several cars touch in them
    joined: int  # cars in several parts, such as behind a lamp post
    uncut: int  # parts that are too large for one car but cover at most one busy slot


def read_mask(path: Path) -> np.ndarray:
    """Reads a mask (H, W) of 0 background, 1 parked car, 2 car elsewhere.

    Raises:
        ValueError: if it is damaged, or has other values, as a mask painted in colors does; the message names
            the file.
    """
    mask = read_image(path)[0].numpy()
    if mask.max(initial=0) > ELSEWHERE:
        raise ValueError(f"the mask {path} holds the value {mask.max()}, not 0, 1 and 2 alone.")
    return mask


def cut_cars(mask: np.ndarray, slots: Sequence[tuple[Contour, bool | None]]) -> Cars:
    """Returns the boxes of a mask's cars: one for each covered busy slot, and one for each part elsewhere.

    The connected parts (8 neighbors) of parked cars are not cars: on a full lot most cars touch. A part that
    covers several busy slots is cut: every pixel goes to the nearest of their contours, and of each piece the
    largest connected part counts. Parts and pieces on one slot are one car that something thin stands in
    front of. Cars that touch outside the busy slots are not told apart; what is too large for one car is
    counted in `uncut`.

    Args:
        mask: (H, W), 0 background, 1 parked car, 2 car elsewhere.
        slots: contour in pixels of the mask, and whether the slot is busy.

    Example:
        >>> mask = np.zeros((20, 40), dtype=np.uint8)
        >>> mask[5:15, 2:38] = 1
        >>> left, right = [(0, 0), (19, 0), (19, 19), (0, 19)], [(20, 0), (39, 0), (39, 19), (20, 19)]
        >>> (cut_cars(mask, [(left, True), (right, True)]).boxes * torch.tensor([40, 20, 40, 20])).round().int()
        tensor([[ 2,  5, 20, 15],
                [20,  5, 38, 15]], dtype=torch.int32)
    """
    parts, count = ndimage.label(mask == PARKED, structure=EIGHT)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    regions = [_paint(contour, mask.shape) for contour, _ in slots]
    on: dict[int, list[int]] = {part: [] for part in range(1, count + 1)}  # the busy slots that a part covers
    for slot, (_, busy) in enumerate(slots):
        covered = np.bincount(parts[regions[slot]], minlength=count + 1)
        for part in on if busy else ():
            if covered[part] >= COVER * max(1, min(regions[slot].sum(), sizes[part])):
                on[part].append(slot)
    places = ndimage.find_objects(parts)
    cars: dict[int, list[Slice2D]] = {}  # by slot
    alone: list[Slice2D] = []
    for part, met in on.items():
        if len(met) > 1:
            for slot, place in _pieces(parts == part, {slot: regions[slot] for slot in met}).items():
                cars.setdefault(slot, []).append(place)
        elif met:
            cars.setdefault(met[0], []).append(places[part - 1])
        else:
            alone.append(places[part - 1])
    others, _ = ndimage.label(mask == ELSEWHERE, structure=EIGHT)
    alone += ndimage.find_objects(others)
    uncut = [parts == part for part, met in on.items() if len(met) < 2]
    uncut += [others == other for other in range(1, others.max() + 1)]
    middles = np.array([np.mean(contour, axis=0)[::-1] for contour, _ in slots])
    areas = np.array([region.sum() for region in regions])
    large = sum(part.sum() > LARGE * areas[_nearest(part, middles)] for part in uncut)
    boxes = [_box(each, mask.shape) for each in (*cars.values(), *([place] for place in alone))]
    cut, joined = sum(len(met) > 1 for met in on.values()), sum(len(each) > 1 for each in cars.values())
    return Cars(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), cut, joined, int(large))


def _paint(contour: Contour, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the inside of a contour as a mask (H, W)."""
    image = Image.new("1", (shape[1], shape[0]))
    ImageDraw.Draw(image).polygon([tuple(point) for point in contour], fill=1)
    return np.asarray(image)


def _pieces(part: np.ndarray, regions: dict[int, np.ndarray]) -> dict[int, Slice2D]:
    """Returns, for each region, the slice of the largest connected piece of a part that is nearest to it."""
    # distances over the whole frame would take long
    (window,) = ndimage.find_objects(np.any([part, *regions.values()], axis=0).astype(np.int8))
    distances = [ndimage.distance_transform_edt(~region[window]) for region in regions.values()]
    nearest, found = np.argmin(distances, axis=0), {}
    for place, slot in enumerate(regions):
        pieces, count = ndimage.label(part[window] & (nearest == place), structure=EIGHT)
        if count:
            inside = ndimage.find_objects(pieces)[np.argmax(np.bincount(pieces.ravel())[1:])]
            rows, columns = (
                slice(whole.start + one.start, whole.start + one.stop)
                for whole, one in zip(window, inside, strict=True)
            )
            found[slot] = rows, columns
    return found


def _nearest(part: np.ndarray, middles: np.ndarray) -> int:
    """Returns the slot whose middle (row, column) is nearest to that of a part."""
    return int(((middles - np.argwhere(part).mean(0)) ** 2).sum(1).argmin())


def _box(places: Sequence[Slice2D], shape: tuple[int, ...]) -> list[float]:
    """Returns the normalized box xyxy around several slices."""
    rows, columns = zip(*places, strict=True)
    height, width = shape
    return [
        min(one.start for one in columns) / width,
        min(one.start for one in rows) / height,
        max(one.stop for one in columns) / width,
        max(one.stop for one in rows) / height,
    ]
