"""Which surface is seen at every pixel, and how far it is: what the thermal and the depth view start from."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lkd.datamodules.world.camera import Array, Camera
from lkd.datamodules.world.ground import Ground
from lkd.datamodules.world.paint import Drawable
from lkd.datamodules.world.plants import Sprite
from lkd.datamodules.world.stage import Stage
from lkd.datamodules.world.view import OVER

GROUND, SKY, FIRST = 0, 1, 2  # the ids of surfaces; shapes of the backdrop begin at FIRST


@dataclass(frozen=True)
class Surfaces:
    """The geometry of a picture, one value a pixel and no blending: what RGB paints last is seen.

    Args:
        ids: (H, W) int32: GROUND, SKY, then one for each shape of the backdrop, then for each thing of the
            stage in its order: one for a sprite, one for each polygon of a solid.
        depth: (H, W) float32, along the optical axis in metres, as depth cameras count; infinite in the sky.
    """

    ids: NDArray[np.int32]
    depth: NDArray[np.float32]


def find_surfaces(stage: Stage) -> Surfaces:
    """Draws the ids in the order in which RGB is painted, then meets every pixel's ray with its plane."""
    camera = stage.scene.view.camera
    ids = Image.new("I", (camera.width // OVER, camera.height_px // OVER))
    ids.paste(_backdrop(camera, stage.ground))
    draw = ImageDraw.Draw(ids)
    shapes = stage.ground.shapes
    # of every id: a plane's normal, its product with the way from the camera to the plane, and bounds of depth
    planes = [np.array([[0.0, 0, 1, -camera.height, 0, np.inf]] * FIRST)]
    planes.append(np.array([[0.0, 1, 0, shape.y, 0, np.inf] for shape in shapes]).reshape(-1, 6))
    number = FIRST + len(shapes)
    for _, thing in stage.things:
        if isinstance(thing, Sprite):
            _paste(ids, thing, number)
            planes.append(_plane(camera, thing))
            number += 1
        else:
            planes.append(_planes(thing))
            for polygon in thing.polygons:
                draw.polygon([(x / OVER, y / OVER) for x, y in polygon], fill=number)
                number += 1
    found = np.asarray(ids)
    return Surfaces(found, _depth(camera, found, np.concatenate(planes).astype(np.float32)))


def _depth(camera: Camera, ids: NDArray[np.int32], planes: NDArray[np.float32]) -> NDArray[np.float32]:
    rays, plane = _rays(camera), planes[ids]
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = plane[..., 3] / (plane[..., :3] * rays).sum(-1)
    # a plane that is seen edge-on may be met far beside the face that lies in it
    depth = np.where(np.isfinite(depth), depth, plane[..., 4]).clip(plane[..., 4], plane[..., 5])
    far: NDArray[np.float32] = np.where(ids == SKY, np.float32(np.inf), depth)
    return far


@lru_cache(maxsize=4)
def _rays(camera: Camera) -> NDArray[np.float32]:
    return camera.rays(OVER).astype(np.float32)


def _backdrop(camera: Camera, ground: Ground) -> Image.Image:
    """Ids without the things of a frame."""
    above = np.isinf(camera.ground(OVER)[2])
    ids = Image.fromarray(np.where(above, SKY, GROUND).astype(np.int32))
    draw = ImageDraw.Draw(ids)
    for number, shape in enumerate(ground.shapes, FIRST):
        shape.draw(draw, number, 1 / OVER)
    return ids


def _paste(ids: Image.Image, sprite: Sprite, number: int) -> None:
    """Every OVER-th pixel of a sprite that is there."""
    left, top = sprite.corner
    alpha = np.asarray(sprite.picture.getchannel("A"))[top % OVER :: OVER, left % OVER :: OVER]
    corner = (-(-left // OVER), -(-top // OVER))
    ids.paste(number, corner, Image.fromarray(alpha > 127))


def _plane(camera: Camera, sprite: Sprite) -> Array:
    """Upright, facing the camera: its plane and bounds of its depth, (1, 6)."""
    foot = np.array([*sprite.foot, 0.0])
    normal = -foot / np.linalg.norm(foot)
    _, depth = camera.project(np.stack([foot, foot + np.array([0, 0, sprite.height + sprite.radius])]))
    return np.array([[*normal, normal @ (foot - camera.position), depth.min(), depth.max()]])


def _planes(thing: Drawable) -> Array:
    """Planes and bounds of depth of a solid's polygons, (F, 6)."""
    return np.concatenate([thing.planes, np.tile(thing.depths, (len(thing.planes), 1))], 1)
