"""Visible surface and distance of every pixel, from which the thermal and the depth view are made."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lkd.datamodules.world.camera import Array, Camera
from lkd.datamodules.world.ground import Ground
from lkd.datamodules.world.plants import Sprite
from lkd.datamodules.world.stage import SceneStage
from lkd.datamodules.world.view import OVER

GROUND, SKY, FIRST = 0, 1, 2  # the ids of surfaces; shapes of the backdrop begin at FIRST


@dataclass(frozen=True)
class Surfaces:
    """The geometry of a picture, one value for each pixel without blending: what RGB paints last is seen.

    Args:
        ids: (H, W) int32: GROUND, SKY, then one for each shape of the backdrop, then for each thing of the
            stage in its order: one for a sprite, one for each polygon of a solid.
        depth: (H, W) float32, along the optical axis in meters, as depth cameras count; infinite in the sky.
    """

    ids: NDArray[np.int32]
    depth: NDArray[np.float32]


def find_surfaces(stage: SceneStage) -> Surfaces:
    """Draws the ids in the painting order of RGB, then intersects every pixel's ray with its plane."""
    camera, empty = stage.scene.view.camera, _empty(stage.scene.view.camera, stage.ground)
    picture = Image.fromarray(empty.ids)
    draw = ImageDraw.Draw(picture)
    first = number = FIRST + len(stage.ground.shapes)
    planes = [np.zeros((0, 6))]  # normal, its product with the vector to the plane, least and greatest depth
    for _, thing in stage.things:
        if isinstance(thing, Sprite):
            _paste(picture, thing, number)
            planes.append(_plane(camera, thing))
            number += 1
            continue
        planes.append(np.concatenate([thing.planes, np.tile(thing.depths, (len(thing.planes), 1))], 1))
        for polygon in thing.polygons:
            draw.polygon([(x / OVER, y / OVER) for x, y in polygon], fill=number)
            number += 1
    ids, depth = np.asarray(picture), empty.depth.copy()
    changed = ids >= first
    depth[changed] = _meet(_rays(camera)[changed], np.concatenate(planes)[ids[changed] - first])
    return Surfaces(ids, depth)


@lru_cache(maxsize=2)  # one for each camera and weather
def _empty(camera: Camera, ground: Ground) -> Surfaces:
    """Returns the surfaces without the things of a frame."""
    above = np.isinf(camera.ground(OVER)[2])
    picture = Image.fromarray(np.where(above, SKY, GROUND).astype(np.int32))
    draw = ImageDraw.Draw(picture)
    for number, shape in enumerate(ground.shapes, FIRST):
        shape.draw(draw, number, 1 / OVER)
    ids = np.asarray(picture)
    planes = np.array(
        [[0.0, 0, 1, -camera.height, 0, np.inf]] * FIRST
        + [[0.0, 1, 0, shape.y, 0, np.inf] for shape in ground.shapes]
    )
    depth = np.where(ids == SKY, np.float32(np.inf), _meet(_rays(camera), planes[ids]))
    return Surfaces(ids, depth)


def _meet(rays: NDArray[np.float32], planes: Array) -> NDArray[np.float32]:
    """Returns how far along their rays (..., 3) pixels meet planes (..., 6) with bounds of depth."""
    plane = planes.astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = plane[..., 3] / (plane[..., :3] * rays).sum(-1)
    # a plane that is seen edge-on may be met far away from the face that lies in it
    met: NDArray[np.float32] = np.where(np.isfinite(depth), depth, plane[..., 4])
    return met.clip(plane[..., 4], plane[..., 5])


@lru_cache(maxsize=4)
def _rays(camera: Camera) -> NDArray[np.float32]:
    return camera.rays(OVER).astype(np.float32)


def _paste(ids: Image.Image, sprite: Sprite, number: int) -> None:
    """Writes a sprite's number at every OVER-th of its pixels that is opaque."""
    left, top = sprite.corner
    alpha = np.asarray(sprite.picture.getchannel("A"))[top % OVER :: OVER, left % OVER :: OVER]
    corner = (-(-left // OVER), -(-top // OVER))
    ids.paste(number, corner, Image.fromarray(alpha > 127))


def _plane(camera: Camera, sprite: Sprite) -> Array:
    """Returns the plane of a sprite, upright and facing the camera, and bounds of its depth, (1, 6)."""
    foot = np.array([*sprite.foot, 0.0])
    normal = -foot / np.linalg.norm(foot)
    _, depth = camera.project(np.stack([foot, foot + np.array([0, 0, sprite.height + sprite.radius])]))
    return np.array([[*normal, normal @ (foot - camera.position), depth.min(), depth.max()]])
