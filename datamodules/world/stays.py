"""Which car stands in which slot, and since when."""

import numpy as np

from lkd.datamodules.world.seeds import DAY, HISTORY, stream
from lkd.datamodules.world.view import CameraView
from lkd.datamodules.world.weather import PER_DAY, STEP


def parked(seed: int, view: CameraView, index: int) -> list[int]:
    """Returns for every slot of the lot the car in it, as a number of that day, or -1.

    Cars come and go during the day: a slot stays as it was for most of the steps.
    """
    day, step = divmod(index, PER_DAY)
    rng = stream(seed, view.name, day, DAY)
    levels = np.clip(rng.uniform(0.2, 0.9) + np.cumsum(rng.normal(0, 0.13, PER_DAY)), 0.2, 0.9)
    count = len(view.lot.slots)
    wish, car = rng.uniform(size=count), np.arange(count)
    for now in range(step + 1):
        leaves = rng.uniform(size=count) < (0.3 if now else 0)
        wish = np.where(leaves, rng.uniform(size=count), wish)
        car = np.where(leaves, car + count, car)
    return [int(number) for number in np.where(wish < levels[step], car, -1)]


def since_change(seed: int, view: CameraView, index: int) -> list[float]:
    """Returns for every slot how many minutes ago its car came or, if it is free, its last car left.

    The moment is drawn once, between the two frames that differ. Cars that are in the day's first frame came
    within one step before it, when the lot was empty. Infinite for slots that were free all day.
    """
    day, step = divmod(index, PER_DAY)
    minutes = STEP.total_seconds() / 60
    share = stream(seed, view.name, day, HISTORY).uniform(size=(PER_DAY, len(view.lot.slots)))
    before, since = np.full(len(view.lot.slots), -1), np.full(len(view.lot.slots), np.inf)
    for now in range(step + 1):
        cars = np.array(parked(seed, view, day * PER_DAY + now))
        since = np.where(cars == before, since, (step - now + share[now]) * minutes)
        before = cars
    return [float(value) for value in since]
