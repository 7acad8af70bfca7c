"""Rendering of a scene: the picture, the boxes of its cars, and the map of visible cars."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from lkd.datamodules.world.paint import look, upside_down
from lkd.datamodules.world.plants import Sprite
from lkd.datamodules.world.scene import Scene
from lkd.datamodules.world.sensor import expose
from lkd.datamodules.world.stage import SceneStage, set_stage
from lkd.datamodules.world.view import OVER

Array = NDArray[np.float64]
VISIBLE = 0.25  # a car with a smaller share of its silhouette in sight has no box
SMALLEST = 6.0  # pixels; a smaller car has no box either


@dataclass(frozen=True)
class RenderedFrame:
    """A picture with its labels.

    Args:
        image: picture, RGB.
        boxes: tight boxes of the cars, xyxy in pixels, (N, 4).
        cars: number of each box's car in the scene, (N,).
        ids: which car is visible, 1 + number of the car or 0, in the oversampled picture, (H, W) uint8.
    """

    image: Image.Image
    boxes: Array
    cars: NDArray[np.int64]
    ids: NDArray[np.uint8]


def render(seed: int, scene: Scene) -> RenderedFrame:
    """Draws a scene; the same scene always gives the same picture."""
    return paint(set_stage(seed, scene))


def paint(stage: SceneStage) -> RenderedFrame:
    """Draws what is on the stage."""
    scene, light, ground = stage.scene, stage.scene.light, stage.ground.image
    lit = _gain(ground, light.sky + light.sun * light.to_sun[2] * 1.15)
    dark = _gain(ground, light.sky * (0.8 if light.sun.any() else 0.35))
    lit.paste(dark, mask=stage.shade.resize(lit.size, Image.Resampling.BILINEAR))
    if light.weather == "RAINY":
        lit = _mirrored(lit, scene)
    ids = Image.new("L", lit.size)
    whole: dict[int, tuple[int, Array]] = {}  # silhouettes inside the picture: pixels and box
    draw = ImageDraw.Draw(lit)
    for number, thing in stage.things:
        if isinstance(thing, Sprite):
            lit.paste(
                _gain(thing.picture.convert("RGB"), light.sky + 0.6 * light.sun), thing.corner, thing.picture
            )
            ids.paste(0, thing.corner, thing.picture)
            continue
        thing.paint(draw)
        mask, (left, top) = thing.silhouette()
        is_car = number < len(scene.cars)
        ids.paste(number + 1 if is_car else 0, (left, top), mask)
        x, y = max(left, 0), max(top, 0)  # the box is tight around what lies inside the picture
        inside = mask.crop(
            (x - left, y - top, min(mask.width, lit.width - left), min(mask.height, lit.height - top))
        )
        if is_car and (extent := inside.getbbox()):
            box = np.array(extent) + np.array([x, y, x, y])
            whole[number] = (inside.histogram()[-1], box / OVER)
    map_ = np.asarray(ids)
    boxes, cars = _boxes(map_, whole)
    image = expose(lit.reduce(OVER), stage.seed, scene, stage.ground.far)
    return RenderedFrame(image, boxes, cars, map_)


def _boxes(ids: NDArray[np.uint8], whole: dict[int, tuple[int, Array]]) -> tuple[Array, NDArray[np.int64]]:
    """Returns the boxes of the cars that are seen well enough."""
    seen = np.bincount(ids.ravel(), minlength=256)
    cars = [
        number
        for number, (pixels, box) in sorted(whole.items())
        if seen[number + 1] >= VISIBLE * pixels and (box[2:] - box[:2]).min() >= SMALLEST
    ]
    boxes = np.array([whole[number][1] for number in cars]).reshape(-1, 4)
    return boxes, np.array(cars, dtype=np.int64)


def _mirrored(ground: Image.Image, scene: Scene) -> Image.Image:
    """Returns the wet ground with the blurred mirror images of the cars in it."""
    layer = ground.copy()
    draw = ImageDraw.Draw(layer)
    for car in scene.cars:
        if seen := look(upside_down(car), scene.view.camera, scene.light):
            seen.paint(draw)
    soft = (
        layer.reduce(2 * OVER).filter(ImageFilter.BoxBlur(1)).resize(ground.size, Image.Resampling.BILINEAR)
    )
    return Image.blend(ground, soft, 0.3)


def _gain(image: Image.Image, gain: Array) -> Image.Image:
    """Returns the picture in a light of RGB strength `gain`."""
    steps = np.arange(256)
    return image.point([int(v) for g in gain for v in np.minimum(steps * g, 255)])
