"""The pinhole cameras that look at the lot."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Points = list[tuple[float, float]]
NEAR = 0.5  # meters: nothing closer is drawn


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at (0, 0, height) above the asphalt z = 0; y points into the lot, all in meters.

    Args:
        height: height above the ground in meters.
        tilt: angle below the horizon in radians.
        pan: angle to the right in radians.
        roll: roll in radians.
        focal: focal length as a multiple of the picture's width.
        width: width of the picture in pixels.
        height_px: height of the picture in pixels.
    """

    height: float
    tilt: float
    pan: float
    roll: float
    focal: float
    width: int
    height_px: int

    @cached_property
    def position(self) -> Array:
        """Position of the camera, (3,) in meters."""
        return np.array([0.0, 0.0, self.height])

    @cached_property
    def axes(self) -> Array:
        """Right, down and forward of the camera in the world, as rows (3, 3)."""
        ct, st, cp, sp = np.cos(self.tilt), np.sin(self.tilt), np.cos(self.pan), np.sin(self.pan)
        forward = np.array([sp * ct, cp * ct, -st])
        right = np.array([cp, -sp, 0.0])
        down = np.cross(forward, right)
        cr, sr = np.cos(self.roll), np.sin(self.roll)
        return np.stack([cr * right + sr * down, cr * down - sr * right, forward])

    def sees(self, x: float, y: float, radius: float) -> bool:
        """Returns whether anything within `radius` meters of the ground at (x, y) may be in the picture."""
        right, down, depth = self.axes @ (np.array([x, y, 0.0]) - self.position)
        reach = max(depth + radius, 0.0) / self.focal
        tall = reach * self.height_px / self.width / 2
        return bool(depth > radius + NEAR and abs(right) < reach / 2 + radius and abs(down) < tall + radius)

    def project(self, points: Array) -> tuple[Array, Array]:
        """Returns pixels (..., 2) and depths (...) in meters of world points (..., 3)."""
        return self._pixels((points - self.position) @ self.axes.T)

    def polygon(self, points: Array) -> Points:
        """Returns the picture of a flat world polygon (N, 3), cut at the near plane.

        It is empty if the polygon is behind the camera.
        """
        seen = (points - self.position) @ self.axes.T
        kept: list[Array] = []
        for a, b in zip(seen, np.roll(seen, -1, axis=0), strict=True):
            if a[2] >= NEAR:
                kept.append(a)
            if (a[2] >= NEAR) != (b[2] >= NEAR):
                kept.append(a + (b - a) * (NEAR - a[2]) / (b[2] - a[2]))
        if len(kept) < 3:
            return []
        return [(float(x), float(y)) for x, y in self._pixels(np.array(kept))[0]]

    def rays(self, step: int) -> Array:
        """Returns where every `step` x `step` pixels look: (H, W, 3), 1 long along the optical axis."""
        rows, columns = np.mgrid[0 : self.height_px : step, 0 : self.width : step] + step / 2
        scale = self.focal * self.width
        rays = np.stack([(columns - self.width / 2) / scale, (rows - self.height_px / 2) / scale], -1)
        rays = np.concatenate([rays, np.ones_like(rays[..., :1])], -1) @ self.axes
        return rays

    def ground(self, step: int) -> tuple[Array, Array, Array]:
        """Returns x, y and depth (H, W) in meters of the ground at every `step` x `step` pixels.

        They are infinite in the sky.
        """
        rays = self.rays(step)
        with np.errstate(divide="ignore"):
            far = np.where(rays[..., 2] < -1e-4, -self.height / rays[..., 2], np.inf)
        with np.errstate(invalid="ignore"):
            return rays[..., 0] * far, rays[..., 1] * far, far

    def _pixels(self, seen: Array) -> tuple[Array, Array]:
        depth = seen[..., 2]
        scale = self.focal * self.width / np.maximum(depth, 1e-6)[..., None]
        return seen[..., :2] * scale + np.array([self.width / 2, self.height_px / 2]), depth
