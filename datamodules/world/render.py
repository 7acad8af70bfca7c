"""From a scene to a picture, the boxes of its cars, and the map of who is visible where."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from lkd.datamodules.world.ground import draw_ground
from lkd.datamodules.world.paint import Drawable, look, shadow, upside_down
from lkd.datamodules.world.plants import Sprite, make_sprites
from lkd.datamodules.world.scene import Scene
from lkd.datamodules.world.sensor import expose
from lkd.datamodules.world.view import OVER, make_view

Array = NDArray[np.float64]
VISIBLE = 0.25  # a car with a smaller share of its silhouette in sight has no box
SMALLEST = 6.0  # pixels, nor has a smaller one


@dataclass(frozen=True)
class Frame:
    """A picture with its labels.

    Args:
        image: RGB.
        boxes: tight boxes of the cars, xyxy in pixels, (N, 4).
        cars: which car of the scene each box is of, (N,).
        ids: who is visible, 1 + number of the car or 0, in the oversampled picture, (H, W) uint8.
    """

    image: Image.Image
    boxes: Array
    cars: NDArray[np.int64]
    ids: NDArray[np.uint8]


@lru_cache(maxsize=6)
def _static(
    seed: int, name: str, size: tuple[int, int], weather: str
) -> tuple[Image.Image, Array, list[Sprite]]:
    view = make_view(seed, name, size)
    return *draw_ground(seed, view, weather), _sprites(seed, name, size)


@lru_cache(maxsize=2)  # the same in all weathers
def _sprites(seed: int, name: str, size: tuple[int, int]) -> list[Sprite]:
    return make_sprites(seed, make_view(seed, name, size))


def render(seed: int, scene: Scene) -> Frame:
    """Draws a scene; the same scene always gives the same picture."""
    view, light = scene.view, scene.light
    size = (view.camera.width // OVER, view.camera.height_px // OVER)
    ground, far, sprites = _static(seed, view.name, size, light.weather)
    lit = _gain(ground, light.sky + light.sun * light.to_sun[2] * 1.15)
    dark = _gain(ground, light.sky * (0.8 if light.sun.any() else 0.35))
    lit.paste(dark, mask=_shade(scene, sprites, size))
    if light.weather == "RAINY":
        lit = _mirrored(lit, scene)
    ids = Image.new("L", lit.size)
    things: list[tuple[float, int, Drawable | Sprite]] = []
    for number, solid in enumerate([*scene.cars, *scene.props]):
        if seen := look(solid, view.camera, light):
            things.append((float(np.hypot(solid.x, solid.y)), number, seen))
    things += [(float(np.hypot(*sprite.foot)), -1, sprite) for sprite in sprites]
    things.sort(key=lambda thing: -thing[0])
    whole: dict[int, tuple[int, Array]] = {}  # silhouettes inside the picture: pixels and box
    draw = ImageDraw.Draw(lit)
    for _, number, thing in things:
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
    image = expose(lit.reduce(OVER), seed, scene, far)
    return Frame(image, boxes, cars, map_)


def _boxes(ids: NDArray[np.uint8], whole: dict[int, tuple[int, Array]]) -> tuple[Array, NDArray[np.int64]]:
    """The boxes of the cars that are seen well enough."""
    seen = np.bincount(ids.ravel(), minlength=256)
    cars = [
        number
        for number, (pixels, box) in sorted(whole.items())
        if seen[number + 1] >= VISIBLE * pixels and (box[2:] - box[:2]).min() >= SMALLEST
    ]
    boxes = np.array([whole[number][1] for number in cars]).reshape(-1, 4)
    return boxes, np.array(cars, dtype=np.int64)


def _shade(scene: Scene, sprites: list[Sprite], size: tuple[int, int]) -> Image.Image:
    """Where the ground lies in the shadow: cast by the sun, or soft below every car without sun."""
    light, camera = scene.light, scene.view.camera
    mask = Image.new("L", size)
    draw = ImageDraw.Draw(mask)
    sunny = bool(light.sun.any())
    to_sun = light.to_sun if sunny else np.array([0.0, 0.0, 1.0])
    if sunny:
        for sprite in sprites:
            for polygon in filter(None, sprite.shadow(camera, to_sun)):
                draw.polygon([(x / OVER, y / OVER) for x, y in polygon], fill=int(255 * sprite.density))
    for solid in [*scene.cars, *scene.props]:
        for polygon in shadow(solid, camera, to_sun):
            draw.polygon([(x / OVER, y / OVER) for x, y in polygon], fill=255 if sunny else 200)
    mask = mask.filter(ImageFilter.BoxBlur(0.6 if sunny else size[0] / 200))
    return mask.resize((camera.width, camera.height_px), Image.Resampling.BILINEAR)


def _mirrored(ground: Image.Image, scene: Scene) -> Image.Image:
    """The wet ground with the blurred mirror images of the cars in it."""
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
    """The picture in a light of RGB strength `gain`."""
    steps = np.arange(256)
    return image.point([int(v) for g in gain for v in np.minimum(steps * g, 255)])
