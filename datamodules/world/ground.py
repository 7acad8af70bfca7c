"""The ground of a camera: asphalt, grass, curbs and painted lines."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lkd.datamodules.world.backdrop import Shape, backdrop, paint_backdrop
from lkd.datamodules.world.camera import Camera
from lkd.datamodules.world.seeds import GROUND, stream
from lkd.datamodules.world.view import OVER, CameraView

Array = NDArray[np.float64]


def noise(rng: np.random.Generator, x: Array, y: Array, cell: float) -> Array:
    """Returns smooth noise of about unit size with features of `cell` meters, at ground points (H, W)."""
    table = rng.normal(size=(64, 64))
    u, v = np.nan_to_num(x / cell, posinf=0, neginf=0), np.nan_to_num(y / cell, posinf=0, neginf=0)
    i, j = np.floor(u).astype(int), np.floor(v).astype(int)
    s, t = u - i, v - j
    s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
    i0, i1, j0, j1 = i % 64, (i + 1) % 64, j % 64, (j + 1) % 64
    low = table[i0, j0] * (1 - s) + table[i1, j0] * s
    high = table[i0, j1] * (1 - s) + table[i1, j1] * s
    return low * (1 - t) + high * t


@dataclass(frozen=True, eq=False)  # compared and hashed by identity
class Ground:
    """The empty lot as its camera sees it; maps are (H, W), as large as the finished picture.

    Args:
        image: RGB in white light, oversampled.
        far: depth of the ground in meters, at most 160.
        lines: share of white paint.
        curb: share of curb stones.
        lawn: share of grass.
        patchy: worn and mended asphalt, about -1 to 1.
        shapes: what stands behind the lot.
    """

    image: Image.Image
    far: Array
    lines: Array
    curb: Array
    lawn: Array
    patchy: Array
    shapes: list[Shape]


def draw_ground(seed: int, view: CameraView, weather: str) -> Ground:
    """Draws the empty lot in one weather."""
    camera, rng = view.camera, stream(seed, view.name, 0, GROUND)
    x, y, far = camera.ground(OVER)
    detail = [noise(rng, x, y, cell) for cell in (0.12, 0.5, 2.5, 9.0)]
    fine = np.clip(14 / far, 0, 1)  # what is smaller than a pixel averages out
    patchy = detail[2] * 3.0 + detail[3] * 4.5 + (detail[0] * 5 + detail[1] * 3) * fine
    color = np.array(view.tint) * (0.72 if weather == "RAINY" else 1.0) + patchy[..., None]
    for lane in view.lot.lanes:  # worn lighter where wheels roll
        for track in (-2.0, -0.7, 0.7, 2.0):
            color += 5.0 * np.exp(-(((y - lane - track) / 0.5) ** 2))[..., None]
    oil = _mask(camera, [_disc(sx, sy, 0.45) for sx, sy, _ in view.lot.slots], 0.55)
    color *= 1 - 0.25 * (oil * np.clip(0.5 + 0.5 * detail[1], 0, 1))[..., None]
    if weather != "SUNNY":  # puddles and a wet sheen that mirrors the sky, more so at flatter angles
        wet = 1.0 if weather == "RAINY" else 0.35
        flat = np.clip(1 - camera.height / np.maximum(far, camera.height), 0, 1) ** 2
        pool = 1 / (1 + np.exp(-8 * (noise(rng, x, y, 4.0) + 0.4 * detail[1] - 1.75 + 0.4 * wet)))
        sheen = wet * (0.30 * flat + pool * (0.15 + 0.45 * flat))[..., None]
        color = color * (1 - 0.3 * wet * pool[..., None]) * (1 - sheen) + np.array([196, 202, 210]) * sheen
    lines = [_stripe(*line) for line in view.lot.lines]
    paint = _mask(camera, lines, 1.0) * np.clip(0.62 + 0.22 * detail[1] + 0.12 * detail[0], 0.15, 0.9)
    color += (np.array([205, 204, 198]) - color) * paint[..., None]
    curb = _mask(camera, [_rectangle(*area, grow=0.16) for area in view.lot.grass], 1.0)[..., None]
    color += (np.array([150, 148, 142]) + detail[1][..., None] * 4 - color) * curb
    blade = detail[0] * 10 * fine + detail[1] * 8 * fine + detail[2] * 6
    mix = np.clip(0.45 + 0.22 * detail[3] + 0.2 * detail[2], 0, 1)[..., None]
    grass = np.array([70, 92, 44]) * (1 - mix) + np.array([112, 108, 62]) * mix
    grass = (grass + blade[..., None]) * (0.8 if weather == "RAINY" else 1.0)
    lawn = _mask(camera, [_rectangle(*area) for area in view.lot.grass], 1.0)[..., None]
    color += (grass - color) * lawn
    image = Image.fromarray(np.clip(color, 0, 255).astype(np.uint8))
    image = image.resize((camera.width, camera.height_px), Image.Resampling.NEAREST)
    shapes = backdrop(view, rng)
    paint_backdrop(image, shapes, np.isinf(far))
    patchy = 0.3 * (detail[2] + detail[3])
    return Ground(image, np.minimum(far, 160.0), paint, curb[..., 0], lawn[..., 0], patchy, shapes)


def _mask(camera: Camera, areas: list[Array], strength: float) -> Array:
    """Returns a mask (H, W) in [0, strength] of the ground polygons `areas`, each (N, 2) in meters."""
    mask = Image.new("L", (camera.width, camera.height_px))
    draw = ImageDraw.Draw(mask)
    for area in areas:
        polygon = camera.polygon(np.concatenate([area, np.zeros((len(area), 1))], 1))
        if polygon:
            draw.polygon(polygon, fill=255)
    return np.asarray(mask.reduce(OVER)) / 255 * strength


def _rectangle(x0: float, y0: float, x1: float, y1: float, grow: float = 0.0) -> Array:
    x0, y0, x1, y1 = x0 - grow, y0 - grow, x1 + grow, y1 + grow
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def _stripe(x0: float, y0: float, x1: float, y1: float, width: float = 0.13) -> Array:
    along = np.array([x1 - x0, y1 - y0])
    aside = np.array([-along[1], along[0]]) / np.linalg.norm(along) * width / 2
    a, b = np.array([x0, y0]), np.array([x1, y1])
    return np.stack([a - aside, b - aside, b + aside, a + aside])


def _disc(x: float, y: float, radius: float) -> Array:
    turns = np.arange(10) * np.pi / 5
    return np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], -1)
