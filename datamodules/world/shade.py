"""Shadows on the ground."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from lkd.datamodules.world.camera import NEAR, Array, Camera, Points
from lkd.datamodules.world.paint import Solid
from lkd.datamodules.world.plants import Sprite
from lkd.datamodules.world.view import OVER


def cast(
    camera: Camera, solids: Sequence[Solid], sprites: Sequence[Sprite], to_sun: Array | None
) -> Image.Image:
    """Draws a mask of the ground's shadows, in the size of the finished picture.

    Args:
        camera: the camera, in pixels of the oversampled picture.
        solids: what stands on the ground.
        sprites: trees and lamp posts, which cast a shadow only where the sun shines.
        to_sun: unit vector to the sun, (3,); `None` without sun, for a soft shadow below every solid.
    """
    size = (camera.width // OVER, camera.height_px // OVER)
    mask = Image.new("L", size)
    draw = ImageDraw.Draw(mask)
    sunny = to_sun is not None
    direction = np.array([0.0, 0.0, 1.0]) if to_sun is None else to_sun
    if sunny:
        for sprite in sprites:
            for polygon in filter(None, sprite.shadow(camera, direction)):
                draw.polygon([(x / OVER, y / OVER) for x, y in polygon], fill=int(255 * sprite.density))
    for solid in solids:
        for polygon in shadow(solid, camera, direction):
            draw.polygon([(x / OVER, y / OVER) for x, y in polygon], fill=255 if sunny else 200)
    return mask.filter(ImageFilter.BoxBlur(0.6 if sunny else size[0] / 200))


def shadow(solid: Solid, camera: Camera, to_sun: Array) -> list[Points]:
    """Returns the polygons, in pixels, of the shadow that `solid` casts on the ground."""
    if not camera.sees(solid.x, solid.y, 9.0):
        return []
    points, mesh = solid.points, solid.mesh
    points = points - to_sun * (points[:, 2:] / to_sun[2])
    pixels, depth = camera.project(points)
    if depth.min() < NEAR:
        return []
    xy = [(x, y) for x, y in pixels.tolist()]
    lit = np.flatnonzero(mesh.solid & (mesh.normals @ solid.turn @ to_sun > 0))
    return [[xy[i] for i in mesh.faces[face]] for face in lit]
