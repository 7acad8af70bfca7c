"""People, containers, trolleys and cones: everything in the lot that is no car."""

from functools import lru_cache

import numpy as np

from lkd.datamodules.world.lot import Lot
from lkd.datamodules.world.mesh import PAINT, RIM, SKIN, TRIM, Builder, Mesh
from lkd.datamodules.world.paint import Solid

COATS = [(40, 44, 60), (120, 36, 36), (70, 74, 72), (30, 30, 32), (150, 140, 120), (60, 90, 130)]


@lru_cache
def prop_mesh(name: str) -> Mesh:
    """Returns the mesh of a "person", "container", "trolley" or "cone"."""
    build = Builder()
    if name == "person":
        _box(build, (-0.22, -0.04), (0.02, 0.15), (0.0, 0.8), TRIM)
        _box(build, (0.04, 0.22), (-0.15, -0.02), (0.0, 0.8), TRIM)
        _box(build, (-0.13, 0.13), (-0.19, 0.19), (0.75, 1.15), PAINT)
        _box(build, (-0.12, 0.12), (-0.24, 0.24), (1.1, 1.45), PAINT)
        _box(build, (-0.10, 0.09), (-0.08, 0.08), (1.47, 1.66), SKIN)
        _box(build, (-0.11, 0.10), (-0.09, 0.09), (1.64, 1.72), TRIM)
    elif name == "container":
        _box(build, (-0.55, 0.55), (-0.8, 0.8), (0.15, 1.15), PAINT)
        _box(build, (-0.6, 0.6), (-0.85, 0.85), (1.15, 1.3), TRIM)
    elif name == "trolley":
        _box(build, (-0.45, 0.45), (-0.28, 0.28), (0.45, 0.95), RIM)
        _box(build, (-0.40, 0.40), (-0.24, 0.24), (0.05, 0.2), TRIM)
        _box(build, (-0.43, -0.36), (-0.24, 0.24), (0.1, 1.05), TRIM)
    else:
        _box(build, (-0.2, 0.2), (-0.2, 0.2), (0.0, 0.06), TRIM)
        _box(build, (-0.09, 0.09), (-0.09, 0.09), (0.06, 0.7), PAINT)
    return build.mesh()


def make_props(rng: np.random.Generator, lot: Lot, cars: list[Solid]) -> list[Solid]:
    """Places some of them on lanes and verges, never inside a car."""
    props = []
    for _ in range(int(rng.poisson(3.0))):
        name = str(rng.choice(["person", "person", "person", "trolley", "container", "cone"]))
        x, y = rng.uniform(-18, 18), float(rng.choice(lot.lanes)) + rng.uniform(-3.2, 3.2)
        paint = COATS[int(rng.integers(len(COATS)))]
        if name == "container":
            paint, y = ((40, 92, 60), (52, 70, 120))[int(rng.integers(2))], lot.end + 1.0
        elif name == "cone":
            paint = (214, 84, 30)
        if y > 9 and all((x - car.x) ** 2 + (y - car.y) ** 2 > 3.3**2 for car in cars):
            props.append(Solid(prop_mesh(name), x, y, rng.uniform(0, 2 * np.pi), paint))
    return props


def _box(
    build: Builder, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], material: int
) -> None:
    build.center = np.array([sum(x) / 2, sum(y) / 2, sum(z) / 2])
    p = {(i, j, k): build.point(x[i], y[j], z[k]) for i in (0, 1) for j in (0, 1) for k in (0, 1)}
    for a in (0, 1):
        build.face([p[a, 0, 0], p[a, 1, 0], p[a, 1, 1], p[a, 0, 1]], material)
        build.face([p[0, a, 0], p[1, a, 0], p[1, a, 1], p[0, a, 1]], material)
        build.face([p[0, 0, a], p[1, 0, a], p[1, 1, a], p[0, 1, a]], material)
