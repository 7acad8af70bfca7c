"""Cars as polyhedra: a lofted body, a cabin on top, and flat details on both."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from lkd.datamodules.world.mesh import GLASS, LAMP, PLATE, RIM, TAIL, TIRE, TRIM, Builder, Mesh


@dataclass(frozen=True)
class CarKind:
    """Side view of a car in meters; x is measured from the rear bumper, z from the ground."""

    length: float
    width: float
    height: float
    belt: float  # z of the lower edge of the windows
    hood: float  # z of the nose
    boot: float  # z of the rear edge
    base: tuple[float, float]  # x of the cabin's foot, rear and front
    roof: tuple[float, float]  # x of the roof, rear and front
    panes: tuple[float, ...] = (0.04, 0.47, 0.52, 0.97)  # side windows as shares of the cabin's side


KINDS = {
    "hatchback": CarKind(3.95, 1.70, 1.48, 0.92, 0.72, 0.88, (0.08, 3.05), (0.45, 2.20)),
    "small": CarKind(3.55, 1.62, 1.52, 0.95, 0.76, 0.92, (0.06, 2.85), (0.30, 2.05)),
    "sedan": CarKind(4.60, 1.80, 1.44, 0.92, 0.70, 0.96, (0.75, 3.45), (1.35, 2.55)),
    "estate": CarKind(4.55, 1.78, 1.48, 0.92, 0.70, 0.90, (0.08, 3.40), (0.42, 2.50)),
    "suv": CarKind(4.45, 1.86, 1.68, 1.06, 0.88, 1.02, (0.10, 3.25), (0.48, 2.45)),
    "van": CarKind(4.75, 1.86, 1.95, 1.08, 0.92, 1.04, (0.04, 4.00), (0.14, 3.05), (0.62, 0.94)),
    "minivan": CarKind(4.30, 1.82, 1.66, 1.00, 0.84, 0.98, (0.06, 3.55), (0.28, 2.45)),
    "pickup": CarKind(5.00, 1.85, 1.75, 1.06, 0.94, 1.02, (1.75, 3.60), (1.95, 2.85)),
}


@lru_cache
def car_mesh(name: str) -> Mesh:
    """Returns the mesh of a kind of car, its middle above the origin."""
    kind, build = KINDS[name], Builder()
    build.center = np.array([0.0, 0.0, 0.6])
    _body(kind, build)
    build.center = np.array([sum(kind.roof) / 2 - kind.length / 2, 0.0, (kind.belt + kind.height) / 2])
    _cabin(kind, build)
    return build.mesh()


def _body(kind: CarKind, build: Builder) -> None:
    half, length = kind.width / 2, kind.length
    rear, front = kind.base
    stations: list[tuple[float, float, float]] = [  # x, share of the width, top
        (0.0, 0.86, kind.boot - 0.10),
        (0.10, 0.94, kind.boot),
        (max(rear, 0.30), 1.0, kind.belt),
        (front, 1.0, kind.belt),
        (length - 0.50, 0.97, kind.hood + 0.04),
        (length - 0.12, 0.88, kind.hood - 0.08),
        (length, 0.74, kind.hood - 0.24),
    ]
    rings = []
    for x, share, top in stations:
        x, w, middle = x - length / 2, half * share, min(0.62, top - 0.05)
        sides = [(w * 0.96, 0.2), (w, middle), (w * 0.93, top)]
        rings.append([build.point(x, s * y, z) for s in (1, -1) for y, z in sides])
    for a, b in pairwise(rings):
        for i, j in ((0, 1), (1, 2), (3, 4), (4, 5), (2, 5)):
            build.face([a[i], b[i], b[j], a[j]])
    for start, stop in ((0.02, 0.033), (0.50, 0.513), (0.95, 0.963)):  # door seams
        a, b = rings[2], rings[3]
        for low, high in ((1, 2), (4, 5)):
            build.inset([a[low], b[low], b[high], a[high]], (start, stop), (0.0, 1.0), TRIM)
    for low, high in ((0, 1), (3, 4)):  # sills
        build.inset(
            [rings[1][low], rings[-2][low], rings[-2][high], rings[1][high]], (0.0, 1.0), (0.0, 0.3), TRIM
        )
    for ring in (rings[0], rings[-1]):
        build.face([ring[0], ring[1], ring[4], ring[3]])
        build.face([ring[1], ring[2], ring[5], ring[4]])
    if kind.base[0] > 1.5:  # the bed of a pick-up
        build.inset([rings[1][2], rings[2][2], rings[2][5], rings[1][5]], (0.06, 0.97), (0.08, 0.92), TRIM)
    _details(rings, build)
    for x in (-length / 2 + 0.20 * length, length / 2 - 0.19 * length):
        for side in (1, -1):
            for radius, material, y in ((0.36, TRIM, 1.0), (0.31, TIRE, 1.01), (0.19, RIM, 1.015)):
                turns = np.arange(12) * np.pi / 6
                z = 0.31 if material != TRIM else 0.36
                disc = [
                    build.point(x + radius * np.cos(t), side * half * y, z + radius * np.sin(t))
                    for t in turns
                ]
                build.face(disc, material, solid=material == TIRE)


def _details(rings: list[list[int]], build: Builder) -> None:
    """Adds lights, plates, grille and bumpers at both ends."""
    r, f, g = rings[0], rings[-1], rings[-2]
    slope = [g[2], g[5], f[5], f[2]]  # the sloped nose
    lower, upper = [f[0], f[3], f[4], f[1]], [f[1], f[4], f[5], f[2]]
    build.inset(lower, (0.1, 0.9), (0.05, 0.5), TRIM)
    build.inset(lower, (0.36, 0.64), (0.55, 0.8), PLATE)
    build.inset(upper, (0.25, 0.75), (0.0, 0.9), TRIM)
    build.inset(slope, (0.0, 0.26), (0.2, 1.0), LAMP)
    build.inset(slope, (0.74, 1.0), (0.2, 1.0), LAMP)
    lower, upper = [r[0], r[3], r[4], r[1]], [r[1], r[4], r[5], r[2]]
    build.inset(lower, (0.02, 0.98), (0.0, 0.3), TRIM)
    build.inset(lower, (0.36, 0.64), (0.6, 0.9), PLATE)
    build.inset(upper, (0.0, 0.2), (0.0, 1.0), TAIL)
    build.inset(upper, (0.8, 1.0), (0.0, 1.0), TAIL)
    for side, back in ((1, 0), (4, 3)):  # strips of light round the corners
        build.inset([g[back], f[back], f[side], g[side]], (0.1, 1.0), (0.75, 1.0), LAMP)


def _cabin(kind: CarKind, build: Builder) -> None:
    half, middle = kind.width / 2, kind.length / 2
    foot = [(kind.base[0] - middle, 0.91), (kind.base[1] - middle, 0.89)]
    roof = [(kind.roof[0] - middle, 0.74), (kind.roof[1] - middle, 0.72)]
    low = {
        (i, s): build.point(x, s * half * w, kind.belt - 0.01)
        for i, (x, w) in enumerate(foot)
        for s in (1, -1)
    }
    rim = kind.height - 0.07  # the roof is beveled
    top = {(i, s): build.point(x, s * half * w, rim) for i, (x, w) in enumerate(roof) for s in (1, -1)}
    for s in (1, -1):
        side = [low[0, s], low[1, s], top[1, s], top[0, s]]
        build.face(side)
        panes = kind.panes
        for start, stop in zip(panes[::2], panes[1::2], strict=True):
            build.inset(side, (start, stop), (0.08, 0.86), GLASS)
    for i in (0, 1):
        end = [low[i, 1], low[i, -1], top[i, -1], top[i, 1]]
        build.face(end)
        build.inset(end, (0.05, 0.95), (0.06, 0.92), GLASS)
    crown = {
        (i, s): build.point(x + (0.22, -0.30)[i], s * half * (w - 0.16), kind.height)
        for i, (x, w) in enumerate(roof)
        for s in (1, -1)
    }
    for a, b in (((0, 1), (1, 1)), ((1, 1), (1, -1)), ((1, -1), (0, -1)), ((0, -1), (0, 1))):
        build.face([top[a], top[b], crown[b], crown[a]])
    build.face([crown[0, 1], crown[1, 1], crown[1, -1], crown[0, -1]])
