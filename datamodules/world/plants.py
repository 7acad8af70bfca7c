"""Trees and lamp posts: drawn once for each camera as sprites, pasted among the cars in every frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lkd.datamodules.world.camera import Camera, Points
from lkd.datamodules.world.seeds import GROUND, stream
from lkd.datamodules.world.view import CameraView

Array = NDArray[np.float64]
LEAVES = np.array([[96, 74, 34], [126, 84, 36], [62, 78, 36], [150, 112, 40]])


@dataclass(frozen=True)
class Sprite:
    """An upright thing as the camera sees it.

    Args:
        picture: RGBA, in white light.
        corner: pixel of its upper left corner.
        foot: x and y in meters of where it stands.
        height: height of the middle of its crown in meters.
        radius: radius of its crown in meters.
        density: density of its shadow, in [0, 1].
    """

    picture: Image.Image
    corner: tuple[int, int]
    foot: tuple[float, float]
    height: float
    radius: float
    density: float

    def shadow(self, camera: Camera, to_sun: Array) -> list[Points]:
        """Returns polygons, in pixels, of its shadow on the ground: crown and stem."""
        (fx, fy), turns = self.foot, np.arange(14) * np.pi / 7
        x, y = np.array(self.foot) - to_sun[:2] * self.height / to_sun[2]
        wide = self.radius * 1.2
        crown = np.stack([x + wide * np.cos(turns), y + wide * np.sin(turns), 0 * turns], -1)
        stem = np.array([[fx - 0.06, fy, 0], [fx + 0.06, fy, 0], [x + 0.06, y, 0], [x - 0.06, y, 0]])
        return [camera.polygon(crown), camera.polygon(stem)]


def make_sprites(seed: int, view: CameraView) -> list[Sprite]:
    """Returns all trees and lamp posts that the camera sees."""
    sprites = []
    for i, (x, y, height, radius, leaves) in enumerate(view.lot.trees):
        pen = _Pen(view.camera, x, y, height * 1.15, radius * 1.3)
        if pen.visible:
            _tree(pen, stream(seed, view.name, i + 1, GROUND), height, radius, leaves)
            sprites.append(pen.sprite(height - radius, radius, 0.25 + 0.5 * leaves))
    for x, y, height in view.lot.lamps:
        pen = _Pen(view.camera, x, y, height * 1.1, 0.6)
        if pen.visible:
            pen.line((0, 0), (0, height), 0.13, (150, 152, 152))
            pen.blob(0.0, height, 0.34, (188, 190, 192))
            pen.blob(0.0, height - 0.12, 0.28, (226, 228, 226))
            sprites.append(pen.sprite(height, 0.35, 0.8))
    return sprites


class _Pen:
    """Pen that draws in meters, right and up, on an upright plane at (x, y) that faces the camera."""

    def __init__(self, camera: Camera, x: float, y: float, height: float, radius: float) -> None:
        ends, depth = camera.project(np.array([[x, y, 0.0], [x, y, height]]))
        self.foot = (x, y)
        self.visible = bool(depth.min() > 12.0)  # closer ones would hide half the lot
        self.scale = camera.focal * camera.width / max(float(depth.mean()), 1e-3)
        self.up = (ends[1] - ends[0]) / height  # pixels per meter
        margin = radius * self.scale + 2
        low, high = ends.min(0) - margin, ends.max(0) + margin
        size = np.array([camera.width, camera.height_px])
        self.visible &= bool((high > 0).all() and (low < size).all())
        self.corner = (int(low[0]), int(low[1]))
        self.base = ends[0] - np.array(self.corner)
        self.image = Image.new("RGBA", tuple((high - low).astype(int) + 1) if self.visible else (1, 1))
        self.draw = ImageDraw.Draw(self.image)

    def at(self, right: float, up: float) -> tuple[float, float]:
        x, y = self.base + self.up * up
        return float(x + right * self.scale), float(y)

    def line(
        self, a: tuple[float, float], b: tuple[float, float], width: float, color: tuple[int, int, int]
    ) -> None:
        self.draw.line([self.at(*a), self.at(*b)], fill=color, width=max(1, round(width * self.scale)))

    def blob(self, right: float, up: float, radius: float, color: tuple[int, int, int]) -> None:
        (x, y), r = self.at(right, up), max(radius * self.scale, 0.7)
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill=color)

    def sprite(self, height: float, radius: float, density: float) -> Sprite:
        return Sprite(self.image, self.corner, self.foot, height, radius, density)


def _tree(pen: _Pen, rng: np.random.Generator, height: float, radius: float, leaves: float) -> None:
    """Draws a trunk that forks, and leaves: few brown ones, or an evergreen crown where `leaves` is 1."""
    bark, tips = (74, 64, 54), []

    def grow(x: float, z: float, angle: float, length: float, width: float) -> None:
        ex, ez = x + length * np.sin(angle), z + length * np.cos(angle)
        pen.line((x, z), (ex, ez), width, bark)
        tips.append((ex, ez))
        if length > 0.24:
            for turn in rng.normal(0, 0.25, 3) + np.array([-0.55, 0.05, 0.55]):
                grow(ex, ez, angle + turn, length * rng.uniform(0.55, 0.8), width * 0.6)

    grow(0.0, 0.0, rng.normal(0, 0.05), height * 0.36, 0.16)
    middle = height - radius
    if leaves == 1:
        for shade in (0.6, 0.8, 1.0, 1.2):  # lit from above: the last blobs are lighter and higher
            for _ in range(70):
                turn, r = rng.uniform(0, 2 * np.pi), radius * np.sqrt(rng.uniform(0, 0.85))
                z = middle + r * np.cos(turn) * 0.85 + (shade - 0.9) * radius * 0.6
                color = np.array([44, 66, 34]) * shade + rng.normal(0, 5, 3)
                pen.blob(r * np.sin(turn), z, radius * 0.14, _rgb(color))
        return
    for _ in range(int(1500 * leaves)):
        x, z = tips[int(rng.integers(len(tips) // 3, len(tips)))]
        color = LEAVES[int(rng.integers(len(LEAVES)))] * rng.uniform(0.7, 1.15)
        pen.blob(x + rng.normal(0, 0.17), z + rng.normal(0, 0.17), rng.uniform(0.015, 0.045), _rgb(color))


def _rgb(color: Array) -> tuple[int, int, int]:
    red, green, blue = color.clip(0, 255)
    return int(red), int(green), int(blue)
