"""Draws a world onto the disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lkd.checks import expect
from lkd.datamodules.world.depth import measure_depth
from lkd.datamodules.world.labels import frame_stem, patch_name, put, write_occupancy, write_slots, yolo_lines
from lkd.datamodules.world.processes import drawn
from lkd.datamodules.world.progress import announce
from lkd.datamodules.world.render import paint
from lkd.datamodules.world.scene import make_scene
from lkd.datamodules.world.stage import SceneStage, set_stage
from lkd.datamodules.world.surfaces import find_surfaces
from lkd.datamodules.world.thermal import measure_heat
from lkd.datamodules.world.view import HEIGHTS, CameraView, make_view, number

PATCH = 150  # side of a patch in pixels
VIEWS = {"thermal": measure_heat, "depth": measure_depth}  # what is drawn beside RGB


def write_world(
    root: Path,
    cameras: Sequence[str],
    frames: int,
    seed: int,
    size: tuple[int, int] = (480, 360),
    patches: bool = False,
    views: Sequence[str] = (),
    heights: tuple[float, float] = HEIGHTS,
) -> None:
    """Draws a car park, frame by frame, in the layout of CNRPark-EXT.

    A frame depends on the seed, its camera and its index alone, so worlds can be drawn in parts, and cameras
    side by side (see `drawn`). Frames with a file of boxes (and with patches, if asked for) are not drawn
    again, and views are drawn beside them.

    Args:
        root: folder for `FULL_IMAGE_<W>x<H>`, `boxes`, `LABELS`, `PATCHES` and `camera<N>.csv`.
        cameras: names "C1".."C999", which become camera1.. on disk.
        frames: pictures of each camera, six a day, one weather a day.
        seed: seed of the world, from 0.
        size: width and height of the pictures in pixels.
        patches: also cut every slot out, 150x150 pixels.
        views: some of "thermal" and "depth" (see `measure_heat` and `measure_depth`): pictures of the same
            moments as 8-bit PNG files, `THERMAL_<W>x<H>` beside `FULL_IMAGE_<W>x<H>` and `PATCHES_THERMAL`
            beside `PATCHES`.
        heights: heights of the lowest and highest camera in meters above the ground; 1.5 to 2.5 is a
            dashboard's view, 4.5 to 11 a mast's.

    Raises:
        ValueError: for no, repeated or unknown cameras, negative seeds, `frames` below 1, pictures
            smaller than 32 pixels or of an aspect beyond 1:1 to 2:1, or heights beyond 1 to 30 meters.

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
    expect(frames=frames, ge=1)
    expect(seed=seed, ge=0)
    if min(size) < 32 or not 1 <= width / height <= 2:
        raise ValueError(f"size={size} must be at least 32x32 pixels, with a width of 1 to 2 heights.")
    if not 1 <= heights[0] <= heights[1] <= 30:
        raise ValueError(f"heights={tuple(heights)} must be lowest and highest, between 1 and 30 meters.")
    for name in cameras:
        number(name)
    if unknown := [name for name in views if name not in VIEWS]:
        raise ValueError(f"views: {unknown[0]!r} is none of {', '.join(VIEWS)}.")
    lots = [make_view(seed, name, (width, height), heights) for name in cameras]
    for lot in lots:
        write_slots(root, lot)
    write_occupancy(root, seed, lots, frames)
    # camera by camera, day by day: an empty lot is drawn once for each weather and kept for the frames of a
    # day
    jobs = [
        [_Job(root, seed, lot, index, (width, height), patches) for index in range(frames)] for lot in lots
    ]
    todo = [[job for job in of_camera if job.lacks(views)] for of_camera in jobs]
    steps = drawn([some for some in todo if some], lambda job: job.draw(views))
    announce(steps, sum(map(len, todo)), f"Drawing {len(cameras)} cameras into {root}")


@dataclass(frozen=True)
class _Job:
    """One moment of one camera, and where its pictures go."""

    root: Path
    seed: int
    view: CameraView
    index: int
    size: tuple[int, int]
    patches: bool

    @property
    def stem(self) -> str:
        return frame_stem(self.seed, self.view.name, self.index)

    def slots(self, kind: str = "") -> list[Path]:
        """Returns the paths of patches, of "" or "_THERMAL" and so on; empty unless patches are asked for."""
        names = [patch_name(self.seed, self.view.name, self.index, slot) for slot in self.view.slot_ids]
        folder, ending = self.root / f"PATCHES{kind}", ".png" if kind else ".jpg"
        return [(folder / name).with_suffix(ending) for name in names if self.patches]

    def full(self, kind: str) -> Path:
        ending = ".jpg" if kind == "FULL_IMAGE" else ".png"
        return self.root / f"{kind}_{self.size[0]}x{self.size[1]}" / f"{self.stem}{ending}"

    @property
    def done(self) -> bool:
        """Whether colors, patches and boxes exist."""
        boxes = self.root / "boxes" / f"{self.stem}.txt"
        return boxes.is_file() and all(path.is_file() for path in self.slots())

    def has(self, view: str) -> bool:
        """Returns whether another view exists."""
        files = [self.full(view.upper()), *self.slots(f"_{view.upper()}")]
        return all(path.is_file() for path in files)

    def lacks(self, views: Sequence[str]) -> bool:
        """Returns whether anything is left to draw."""
        return not self.done or any(not self.has(view) for view in views)

    def draw(self, views: Sequence[str]) -> None:
        """Writes what is missing; boxes come last, and each view's full picture after its patches."""
        stage = set_stage(self.seed, make_scene(self.seed, self.view, self.index))
        if lacking := [view for view in views if not self.has(view)]:
            surfaces = find_surfaces(stage)
            for view in lacking:
                # values of a sensor are not mixed: between a car and the ground behind it nothing is in
                # between
                image = VIEWS[view](stage, surfaces)
                self._write(image, view.upper(), f"_{view.upper()}", Image.Resampling.NEAREST)
        if not self.done:
            self._colors(stage)

    def _colors(self, stage: SceneStage) -> None:
        frame = paint(stage)
        self._write(frame.image, "FULL_IMAGE", "", Image.Resampling.BILINEAR)
        put(self.root / "boxes" / f"{self.stem}.txt", yolo_lines(frame.boxes, self.size))

    def _write(self, image: Image.Image, kind: str, patches: str, way: Image.Resampling) -> None:
        boxes = self.view.boxes * np.array([*self.size, *self.size])
        for path, box in zip(self.slots(patches), boxes if self.patches else (), strict=True):
            left, top, right, bottom = (float(side) for side in box)
            _save(image.resize((PATCH, PATCH), way, (left, top, right, bottom)), path)
        _save(image, self.full(kind))


def _save(image: Image.Image, path: Path) -> None:
    """Writes a picture in one step, so that nobody ever finds half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"part.{path.name}")
    image.save(part, quality=92, compress_level=1)  # JPEG's and PNG's: noise hardly gets smaller with more
    part.replace(path)
