"""Draws a world onto the disk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from lkd.datamodules.world.labels import frame_stem, patch_name, put, write_occupancy, write_slots, yolo_lines
from lkd.datamodules.world.render import render
from lkd.datamodules.world.scene import make_scene
from lkd.datamodules.world.view import View, make_view, number

PATCH = 150  # side of a patch in pixels


def write_world(
    root: Path,
    cameras: Sequence[str],
    frames: int,
    seed: int,
    size: tuple[int, int] = (480, 360),
    patches: bool = False,
) -> None:
    """Draws a car park, frame by frame, in the layout of CNRPark-EXT.

    A frame depends on the seed, its camera and its index alone, so worlds can be drawn in parts. Frames whose
    file of boxes is there (and whose patches are, if asked for) are not drawn again.

    Args:
        root: where `FULL_IMAGE_<W>x<H>`, `boxes`, `LABELS`, `PATCHES` and `camera<N>.csv` go.
        cameras: names "C1".."C999", which become camera1.. on disk
        frames: pictures a camera, six a day, one weather a day.
        seed: of the world, from 0.
        size: width and height of the pictures in pixels.
        patches: also cut every slot out, 150x150 pixels.

    Raises:
        ValueError: for no or repeated or unknown cameras, negative seeds, `frames` below 1, or pictures
            smaller than 32 pixels or of an aspect beyond 1:1 to 2:1.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> write_world(root, ["C1"], frames=1, seed=0, size=(64, 48))
        >>> sorted(path.name for path in root.iterdir())
        ['CNRPark+EXT.csv', 'FULL_IMAGE_64x48', 'LABELS', 'boxes', 'camera1.csv']
    """
    width, height = size
    if not cameras or len(set(cameras)) < len(cameras):
        raise ValueError(f"cameras={list(cameras)} must be one or more names, each given once.")
    if frames < 1 or seed < 0:
        raise ValueError(f"frames={frames} must be at least 1 and seed={seed} at least 0.")
    if min(size) < 32 or not 1 <= width / height <= 2:
        raise ValueError(f"size={size} must be at least 32x32 pixels, with a width of 1 to 2 heights.")
    for name in cameras:
        number(name)
    views = [make_view(seed, name, (width, height)) for name in cameras]
    for view in views:
        write_slots(root, view)
    write_occupancy(root, seed, views, frames)
    # day by day: a camera's empty lot is drawn once for each weather and kept for the frames of a day
    jobs = [(view, index) for view in views for index in range(frames)]
    todo = [job for job in jobs if not _done(root, seed, *job, patches)]
    for view, index in track(todo, description="Drawing the car park", disable=not todo, transient=True):
        _write_frame(root, seed, view, index, (width, height), patches)


def _done(root: Path, seed: int, view: View, index: int, patches: bool) -> bool:
    if not (root / "boxes" / f"{frame_stem(seed, view.name, index)}.txt").is_file():
        return False
    names = [patch_name(seed, view.name, index, slot) for slot in view.slot_ids if patches]
    return all((root / "PATCHES" / name).is_file() for name in names)


def _write_frame(root: Path, seed: int, view: View, index: int, size: tuple[int, int], patches: bool) -> None:
    """Writes one picture, its patches, and last its boxes."""
    frame, stem = render(seed, make_scene(seed, view, index)), frame_stem(seed, view.name, index)
    if patches:
        for slot, box in zip(view.slot_ids, view.boxes * np.array([*size, *size]), strict=True):
            left, top, right, bottom = (float(side) for side in box)
            patch = frame.image.resize((PATCH, PATCH), Image.Resampling.BILINEAR, (left, top, right, bottom))
            _save(patch, root / "PATCHES" / patch_name(seed, view.name, index, slot))
    _save(frame.image, root / f"FULL_IMAGE_{size[0]}x{size[1]}" / f"{stem}.jpg")
    put(root / "boxes" / f"{stem}.txt", yolo_lines(frame.boxes, size))


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=92)
