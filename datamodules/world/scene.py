"""What stands in the lot when a frame is taken."""

from dataclasses import dataclass, replace

import numpy as np

from lkd.datamodules.world.cars import car_mesh
from lkd.datamodules.world.paint import Solid
from lkd.datamodules.world.props import make_props
from lkd.datamodules.world.seeds import CARS, FRAME, PROPS, stream
from lkd.datamodules.world.stays import parked, since_change
from lkd.datamodules.world.view import CameraView, number
from lkd.datamodules.world.weather import PER_DAY, Light, make_light

PAINTS = (  # RGB, and how many of a hundred cars have it
    ((226, 228, 230), 24), ((34, 35, 38), 17), ((158, 162, 166), 17), ((92, 96, 101), 13), ((40, 58, 104), 8),
    ((150, 24, 26), 8), ((62, 110, 168), 4), ((70, 78, 60), 2), ((196, 182, 150), 3), ((214, 176, 40), 2),
    ((108, 66, 44), 2),
)  # fmt: skip
SHARES = {
    "hatchback": 0.27, "small": 0.18, "sedan": 0.16, "estate": 0.1, "suv": 0.13, "van": 0.05, "minivan": 0.08,
    "pickup": 0.03,
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """One moment in front of a camera.

    Args:
        view: the camera and its lot.
        light: weather and time of day.
        cars: every car, parked or driving.
        props: people, containers and trolleys.
        index: number of the frame.
    """

    view: CameraView
    light: Light
    cars: list[Solid]
    props: list[Solid]
    index: int


def occupancy(seed: int, view: CameraView, index: int) -> tuple[list[int], list[int]]:
    """Returns for each listed slot whether it is busy, and whether another car came since the last frame.

    As in the official list, a car that comes to a free slot does not change the occupant. Cars do not stay
    overnight.
    """
    now = parked(seed, view, index)
    before = parked(seed, view, index - 1) if index else [-1] * len(now)
    overnight = index % PER_DAY == 0
    busy = [int(now[slot] >= 0) for slot in view.listed]
    changed = [now[s] >= 0 and before[s] >= 0 and (overnight or now[s] != before[s]) for s in view.listed]
    return busy, [int(change) for change in changed]


def make_scene(seed: int, view: CameraView, index: int) -> Scene:
    """Makes the scene of frame `index`, which depends on nothing else."""
    light = make_light(seed, view.name, number(view.name), index)
    now, since = parked(seed, view, index), since_change(seed, view, index)
    cars = [parked_car(seed, view, index, i, now[i], since[i]) for i in range(len(now)) if now[i] >= 0]
    rng = stream(seed, view.name, index, FRAME)
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.35, 0.35, 0.2, 0.1]))):
        driver = _driver(rng, view, light)
        if all(
            (driver.x - car.x) ** 2 + (driver.y - car.y) ** 2 > 5.2**2 or abs(driver.y - car.y) > 3.6
            for car in cars
        ):
            cars.append(driver)
    props = make_props(stream(seed, view.name, index, PROPS), view.lot, cars)
    return Scene(view, light, cars, props, index)


def parked_car(seed: int, view: CameraView, index: int, slot: int, key: int, idle: float) -> Solid:
    """Makes car number `key` of the day of frame `index`, which has stood in `slot` for `idle` minutes."""
    x, y, heading = view.lot.slots[slot]
    rng = stream(seed, f"{view.name} {index // PER_DAY}", key, CARS)
    car = _car(rng, x + rng.normal(0, 0.1), y + rng.normal(0, 0.16), heading, lights=False)
    return replace(car, idle=idle)


def _car(rng: np.random.Generator, x: float, y: float, heading: float, lights: bool) -> Solid:
    kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    shares = np.array([share for _, share in PAINTS], dtype=float)
    paint = (
        np.array(PAINTS[int(rng.choice(len(PAINTS), p=shares / shares.sum()))][0])
        + rng.normal(0, 2.5, 3)
        + rng.normal(0, 7)
    )
    if kind == "van" and rng.random() < 0.7:
        paint = np.array([224.0, 225, 224])
    turn = np.pi * (rng.random() < 0.3) + rng.normal(0, 0.025)
    red, green, blue = paint.clip(16, 240)
    scale = rng.uniform(0.97, 1.04)
    return Solid(car_mesh(kind), x, y, heading + turn, (red, green, blue), lights, scale, idle=0.0)


def _driver(rng: np.random.Generator, view: CameraView, light: Light) -> Solid:
    lane, side = float(rng.choice(view.lot.lanes)), int(rng.choice([-1, 1]))
    x, y = rng.uniform(-25, 25), lane - side * 1.3
    car = _car(rng, x, y, 0.0, lights=light.weather == "RAINY" or rng.random() < 0.3)
    heading = (0.0 if side > 0 else np.pi) + rng.normal(0, 0.04)
    return replace(car, heading=heading)
