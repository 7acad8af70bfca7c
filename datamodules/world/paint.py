"""Painting polyhedra: flat shading by sun and sky, back faces left out, far objects first."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lkd.datamodules.world.camera import NEAR, Camera, Points
from lkd.datamodules.world.mesh import GLASS, LAMP, PAINT, TAIL, Mesh
from lkd.datamodules.world.weather import Light

Array = NDArray[np.float64]
COLORS = np.array(  # of the materials of mesh.py; the first is the car's own
    [
        [0, 0, 0],
        [20, 24, 28],
        [24, 24, 25],
        [225, 225, 215],
        [150, 22, 20],
        [205, 205, 195],
        [30, 31, 32],
        [128, 130, 133],
        [190, 148, 124],
    ],
    dtype=float,
)
SHEEN = np.array([0.16, 0.36, 0.0, 0.3, 0.1, 0.0, 0.02, 0.1, 0.0])  # how much of the sky a face mirrors


@dataclass(frozen=True)
class Solid:
    """A polyhedron standing on the ground: middle (x, y) in meters, heading in radians, RGB paint."""

    mesh: Mesh
    x: float
    y: float
    heading: float
    paint: tuple[float, float, float]
    lights: bool = False  # whether they are on
    scale: float = 1.0
    idle: float = np.inf  # minutes since its engine was stopped, 0 while it runs

    @cached_property
    def points(self) -> Array:
        """Its points in the world, (V, 3) in meters."""
        placed: Array = self.mesh.points * self.scale @ self.turn + np.array([self.x, self.y, 0.0])
        return placed

    @cached_property
    def turn(self) -> Array:
        """Matrix (3, 3) that turns rows from its own frame into the world."""
        c, s = np.cos(self.heading), np.sin(self.heading)
        return np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Drawable:
    """A solid as a camera sees it: polygons in pixels, in painting order, with their colors."""

    solid: Solid
    facing: NDArray[np.int64]  # which faces of its mesh the polygons are, (F,)
    planes: Array  # (F, 4): outward normal of each, and its product with the vector from the camera to it
    depths: tuple[float, float]  # depths of its nearest and farthest point
    polygons: list[Points]
    colors: list[tuple[int, int, int]]
    outline: list[Points]  # polygons whose union is the silhouette
    reach: tuple[float, float, float, float]  # xyxy of the whole solid in pixels

    def paint(self, draw: ImageDraw.ImageDraw) -> None:
        """Paints the solid onto a picture."""
        for polygon, color in zip(self.polygons, self.colors, strict=True):
            draw.polygon(polygon, fill=color)

    def silhouette(self) -> tuple[Image.Image, tuple[int, int]]:
        """Returns its unclipped outline as a mask of 0 and 255, and the mask's upper left pixel."""
        left, top = int(np.floor(self.reach[0])) - 1, int(np.floor(self.reach[1])) - 1
        mask = Image.new("L", (int(self.reach[2]) - left + 3, int(self.reach[3]) - top + 3))
        draw = ImageDraw.Draw(mask)
        for polygon in self.outline:
            draw.polygon([(x - left, y - top) for x, y in polygon], fill=255)
        return mask, (left, top)


def look(solid: Solid, camera: Camera, light: Light) -> Drawable | None:
    """Returns `solid` as `camera` sees it in `light`, or `None` if it is out of view."""
    if not camera.sees(solid.x, solid.y, 3.5):
        return None
    mesh, points = solid.mesh, solid.points
    pixels, depth = camera.project(points)
    (left, top), (right, bottom) = pixels.min(0), pixels.max(0)
    if depth.min() < NEAR or right < 0 or bottom < 0 or left >= camera.width or top >= camera.height_px:
        return None
    towards, normals = points[mesh.corners[:, 0]] - camera.position, mesh.normals @ solid.turn
    facing = np.flatnonzero((towards * normals).sum(1) < 0)
    normals, towards = normals[facing], towards[facing]
    colors = _shade(solid, mesh.material[facing], normals, towards, light)
    colors = np.clip(colors, 0, 255).astype(int)
    xy = [(x, y) for x, y in pixels.tolist()]
    polygons = [[xy[i] for i in mesh.faces[face]] for face in facing]
    return Drawable(
        solid,
        facing,
        np.concatenate([normals, (towards * normals).sum(1, keepdims=True)], 1),
        (float(depth.min()), float(depth.max())),
        polygons,
        [(r, g, b) for r, g, b in colors.tolist()],
        [polygon for polygon, face in zip(polygons, facing, strict=True) if mesh.solid[face]],
        (left, top, right, bottom),
    )


def upside_down(solid: Solid) -> Solid:
    """Returns the mirror image of a solid in the ground."""
    return replace(solid, mesh=_mirror(solid.mesh))


@lru_cache
def _mirror(mesh: Mesh) -> Mesh:
    return replace(mesh, points=mesh.points * np.array([1.0, 1.0, -1.0]), corners=mesh.corners[:, ::-1])


def _shade(solid: Solid, material: NDArray[np.int64], normals: Array, towards: Array, light: Light) -> Array:
    """Returns colors (F, 3) of faces of these materials and normals, seen from the directions `towards`."""
    paint = np.array(solid.paint)
    base = np.where((material == PAINT)[:, None], paint, COLORS[material])
    up = normals[:, 2:]
    diffuse = light.sky * (0.62 + 0.38 * up) + light.sun * np.clip(normals @ light.to_sun, 0, None)[:, None]
    towards = towards / np.linalg.norm(towards, axis=1, keepdims=True)
    mirrored = towards - 2 * (towards * normals).sum(1, keepdims=True) * normals
    # what a face mirrors: the sky above, the asphalt below, and the sun where it stands
    seen = np.where(mirrored[:, 2:] > 0, light.air * np.clip(0.45 + mirrored[:, 2:], 0, 1), 60 * light.sky)
    glint = np.clip(mirrored @ light.to_sun, 0, 1)[:, None] ** 24 * light.sun * 200
    sheen = SHEEN[material][:, None]
    colors: Array = base * diffuse * (1 - sheen) + (seen + glint) * sheen
    if solid.lights:
        colors[material == LAMP] = (255, 252, 235)
        colors[material == TAIL] = (235, 40, 30)
    colors[material == GLASS] *= 0.9
    return colors
