"""Polyhedra: what cars and most of the other things in the lot are made of."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
PAINT, GLASS, TIRE, LAMP, TAIL, PLATE, TRIM, RIM, SKIN = range(9)  # materials of faces


@dataclass(frozen=True, eq=False)  # compared and hashed by identity
class Mesh:
    """A polyhedron in its own frame: x forward, y left, z up, in meters.

    Args:
        points: points (V, 3).
        faces: indices of points, in the order in which they are painted.
        corners: first three indices of every face, turned so that normals point outward, (F, 3).
        material: material of every face, (F,).
        solid: faces that make the outline and the shadow; the other faces lie on them.
    """

    points: Array
    faces: list[list[int]]
    corners: NDArray[np.int64]
    material: NDArray[np.int64]
    solid: NDArray[np.bool_]

    @cached_property
    def normals(self) -> Array:
        """Outward unit normals of the faces, (F, 3)."""
        a, b, c = (self.points[self.corners[:, i]] for i in range(3))
        normals = np.cross(b - a, c - a)
        unit: Array = normals / np.linalg.norm(normals, axis=1, keepdims=True)
        return unit

    @cached_property
    def centers(self) -> Array:
        """Middle of every face's corners, (F, 3)."""
        return np.array([self.points[face].mean(0) for face in self.faces])


class Builder:
    """Collector of points and faces, which turns faces outward from `center`."""

    def __init__(self) -> None:
        self.points: list[Array] = []
        self.faces: list[tuple[list[int], int, bool]] = []
        self.center = np.zeros(3)

    def point(self, x: float, y: float, z: float) -> int:
        """Adds a point and returns its index."""
        self.points.append(np.array([x, y, z]))
        return len(self.points) - 1

    def face(self, corners: list[int], material: int = PAINT, solid: bool = True) -> None:
        """Adds a face, turned outward."""
        a, b, c = (self.points[i] for i in corners[:3])
        inward = np.cross(b - a, c - a) @ (a - self.center) < 0
        self.faces.append((corners[::-1] if inward else corners, material, solid))

    def inset(
        self, corners: list[int], u: tuple[float, float], v: tuple[float, float], material: int
    ) -> None:
        """Adds a patch on the quad `corners`: shares `u` from edge 0-3 to 1-2, `v` from 0-1 to 3-2."""
        a, b, c, d = (self.points[i] for i in corners)
        patch = []
        for s, t in ((u[0], v[0]), (u[1], v[0]), (u[1], v[1]), (u[0], v[1])):
            patch.append(self.point(*((1 - t) * ((1 - s) * a + s * b) + t * ((1 - s) * d + s * c))))
        self.face(patch, material, solid=False)

    def mesh(self) -> Mesh:
        """Returns the finished polyhedron."""
        return Mesh(
            np.array(self.points),
            [face for face, _, _ in self.faces],
            np.array([face[:3] for face, _, _ in self.faces]),
            np.array([material for _, material, _ in self.faces]),
            np.array([solid for _, _, solid in self.faces]),
        )
