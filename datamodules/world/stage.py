"""A scene as its camera sees it, before anything is painted: the common base of RGB, thermal and depth."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from PIL import Image

from lkd.datamodules.world.ground import Ground, draw_ground
from lkd.datamodules.world.paint import Drawable, look
from lkd.datamodules.world.plants import Sprite, make_sprites
from lkd.datamodules.world.scene import Scene
from lkd.datamodules.world.shade import cast
from lkd.datamodules.world.view import OVER, make_view


@dataclass(frozen=True)
class SceneStage:
    """Everything that a picture of a scene is painted from.

    Args:
        seed: seed of the world.
        scene: what stands where.
        ground: the empty lot.
        sprites: trees and lamp posts.
        things: all things in view, in painting order (farthest first): a sprite or a solid, and its number in
            `[*scene.cars, *scene.props]` (-1 for sprites).
    """

    seed: int
    scene: Scene
    ground: Ground
    sprites: list[Sprite]
    things: list[tuple[int, Drawable | Sprite]]

    @cached_property
    def shade(self) -> Image.Image:
        """Mask of the ground's shadows, in the size of the finished picture."""
        light = self.scene.light
        solids = [*self.scene.cars, *self.scene.props]
        return cast(self.scene.view.camera, solids, self.sprites, light.to_sun if light.sun.any() else None)


def set_stage(seed: int, scene: Scene) -> SceneStage:
    """Makes the stage of a scene; the same scene always gives the same stage."""
    camera = scene.view.camera
    size = camera.width // OVER, camera.height_px // OVER
    ground, sprites = _static(seed, scene.view.name, size, scene.light.weather, scene.view.heights)
    things: list[tuple[float, int, Drawable | Sprite]] = []
    for number, solid in enumerate([*scene.cars, *scene.props]):
        if seen := look(solid, camera, scene.light):
            things.append((float(np.hypot(solid.x, solid.y)), number, seen))
    things += [(float(np.hypot(*sprite.foot)), -1, sprite) for sprite in sprites]
    things.sort(key=lambda thing: -thing[0])
    return SceneStage(seed, scene, ground, sprites, [(number, thing) for _, number, thing in things])


@lru_cache(maxsize=6)
def _static(
    seed: int, name: str, size: tuple[int, int], weather: str, heights: tuple[float, float]
) -> tuple[Ground, list[Sprite]]:
    view = make_view(seed, name, size, heights)
    return draw_ground(seed, view, weather), _sprites(seed, name, size, heights)


@lru_cache(maxsize=2)  # sprites are the same in all weathers
def _sprites(seed: int, name: str, size: tuple[int, int], heights: tuple[float, float]) -> list[Sprite]:
    return make_sprites(seed, make_view(seed, name, size, heights))
