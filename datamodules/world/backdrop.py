"""What stands behind the lot: distant hills, houses with windows and a hedge, and the sky."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lkd.datamodules.world.camera import Camera, Points
from lkd.datamodules.world.view import CameraView

HILL, WALL, WINDOW, HEDGE = range(4)  # what a shape is made of


@dataclass(frozen=True)
class Shape:
    """A flat thing that stands upright at `y`.

    Args:
        outline: its polygon in pixels, or two corners of the box of an ellipse.
        fill: color, RGB.
        y: where it stands, in meters.
        material: HILL, WALL, WINDOW or HEDGE.
    """

    outline: Points
    fill: tuple[int, int, int]
    y: float
    material: int

    def draw(self, draw: ImageDraw.ImageDraw, fill: tuple[int, int, int] | int, scale: float = 1.0) -> None:
        """Draws it onto a picture that is `scale` times the oversampled one."""
        outline = self.outline if scale == 1 else [(x * scale, y * scale) for x, y in self.outline]
        (draw.ellipse if len(outline) == 2 else draw.polygon)(outline, fill=fill)


def backdrop(view: CameraView, rng: np.random.Generator) -> list[Shape]:
    """Returns all shapes, in the order in which they are painted."""
    camera, end = view.camera, view.lot.end
    shapes: list[Shape] = []
    for west in np.arange(-400.0, 400.0, 9.0):
        top = rng.uniform(5, 11)
        tone = int(rng.integers(-10, 10))
        hill = (98 + tone, 112 + tone, 100 + tone)
        shapes += _upright(camera, west, west + 10, end + 90, 0, top, hill, HILL)
    x0 = -150.0
    while x0 < 150:
        width, height, front = rng.uniform(12, 30), rng.uniform(4, 11), end + rng.uniform(20, 27)
        if rng.random() < 0.45:
            wall = int(rng.integers(130, 205))
            shapes += _upright(camera, x0, x0 + width, front, 0, height, (wall, wall - 8, wall - 20), WALL)
            for z in np.arange(1.0, height - 1.6, 3.0):
                for left in np.arange(x0 + 1, x0 + width - 1.5, 3.0):
                    shapes += _upright(camera, left, left + 1.4, front, z, z + 1.4, (70, 78, 88), WINDOW)
        x0 += width + rng.uniform(3, 14)
    return shapes + _hedge(view, rng)


def _hedge(view: CameraView, rng: np.random.Generator) -> list[Shape]:
    camera, end = view.camera, view.lot.end
    size_px = np.array([camera.width, camera.height_px])
    shapes = []
    for x in np.sort(rng.uniform(-120, 120, 150)):
        green = int(rng.integers(40, 70))
        size = rng.uniform(0.5, 2.0)
        y = end + 10 + rng.normal(0, 2)
        pixels, depth = camera.project(np.array([[x, y, 0.6 * size]]))
        r = size * camera.focal * camera.width / max(float(depth[0]), 1.0)
        if depth[0] > 1 and (abs(pixels[0] - size_px / 2) < size_px / 2 + 2 * r).all():
            for shade, share in ((0.65, 1.0), (0.85, 0.7), (1.0, 0.6), (1.15, 0.45)):
                for _ in range(int(6 / share)):
                    turn = rng.uniform(0, 2 * np.pi)
                    px, py = pixels[0] + r * (1 - share * 0.6) * np.array([np.cos(turn), np.sin(turn)])
                    py, s = py - r * (shade - 0.8) * 0.6, r * share * 0.45
                    fill = (int((green - 6) * shade), int((green + 12) * shade), int((green - 18) * shade))
                    box = [(float(px - s), float(py - s)), (float(px + s), float(py + s))]
                    shapes.append(Shape(box, fill, y, HEDGE))
    return shapes


def paint_backdrop(image: Image.Image, shapes: list[Shape], above: NDArray[np.bool_]) -> None:
    """Paints the sky where `above` says, then the shapes."""
    rows = np.linspace(0, 1, image.height)[:, None, None]
    sky = np.broadcast_to(np.array([214, 222, 232]) + 30 * rows, (image.height, image.width, 3)).clip(0, 255)
    image.paste(Image.fromarray(sky.astype(np.uint8)), mask=Image.fromarray(above).resize(image.size))
    draw = ImageDraw.Draw(image)
    for shape in shapes:
        shape.draw(draw, shape.fill)


def _upright(
    camera: Camera, x0: float, x1: float, y: float, z0: float, z1: float,
    fill: tuple[int, int, int], material: int,
) -> list[Shape]:  # fmt: skip
    polygon = camera.polygon(np.array([[x0, y, z0], [x1, y, z0], [x1, y, z1], [x0, y, z1]]))
    return [Shape(polygon, fill, y, material)] if polygon else []
