"""Weather, time of day, and the light that they make."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lkd.datamodules.world.seeds import DAY, LIGHT, stream

Array = NDArray[np.float64]
WEATHERS = ("SUNNY", "OVERCAST", "RAINY")
FIRST_DAY = date(2015, 11, 12)
PER_DAY = 6
STEP = timedelta(minutes=100)  # between two frames of a day


@dataclass(frozen=True)
class Light:
    """The light of one frame.

    Args:
        weather: "SUNNY", "OVERCAST" or "RAINY".
        to_sun: unit vector to the sun, (3,).
        sun: RGB strength of the direct light; 0 without sun.
        sky: RGB strength of the light from everywhere.
        air: RGB in 0..255 of sky and haze.
        haze: share of haze per meter.
    """

    weather: str
    to_sun: Array
    sun: Array
    sky: Array
    air: Array
    haze: float


@lru_cache(maxsize=4096)  # every file name asks for it
def weather_of(seed: int, index: int) -> str:
    """Returns the weather of the day of frame `index`, the same for all cameras.

    Three days hold all three.
    """
    turn, day = divmod(index // PER_DAY, len(WEATHERS))
    return str(stream(seed, "", turn, DAY).permutation(WEATHERS)[day])


def moment(number: int, index: int) -> datetime:
    """Returns when camera `number` takes frame `index`: cameras follow each other by some minutes."""
    day, step = divmod(index, PER_DAY)
    start = datetime.combine(FIRST_DAY + timedelta(days=day), time(7, 8))
    return start + step * STEP + timedelta(minutes=number % 20)


def clock(number: int, index: int) -> float:
    """Returns the time of day, in hours, at which camera `number` takes frame `index`."""
    at = moment(number, index)
    return at.hour + at.minute / 60


def daylight(hour: float) -> float:
    """Returns how high the sun stands: about 0 at dawn (6:24) and dusk (17:24), 1 at noon."""
    return float(np.sin(np.pi * np.clip((hour - 6.4) / (17.4 - 6.4), 0.02, 0.98)))


def sun_direction(seed: int, name: str, hour: float) -> Array:
    """Returns the unit vector (3,) from the lot of camera `name` to the sun."""
    south = stream(seed, name, 0, LIGHT).uniform(0, 2 * np.pi)  # where south lies differs between cameras
    azimuth, elevation = south + (hour - 12) * np.pi / 10, np.deg2rad(14 + 28 * daylight(hour))
    to_sun = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), 0.0])
    to_sun[2] = np.sin(elevation)
    return to_sun


def make_light(seed: int, name: str, number: int, index: int) -> Light:
    """Makes the light in which camera `name` takes frame `index`."""
    weather, rng = weather_of(seed, index), stream(seed, name, index, LIGHT)
    hour = clock(number, index)
    day, to_sun = daylight(hour), sun_direction(seed, name, hour)
    warm = np.array([1.0, 0.80 + 0.17 * day, 0.55 + 0.38 * day])
    level = rng.uniform(0.92, 1.08)
    if weather == "SUNNY":
        sun, sky = warm * (1.05 + 0.15 * day), np.array([0.58, 0.63, 0.72]) * (0.72 + 0.28 * day)
        air, haze = np.array([176, 200, 228.0]) * (0.7 + 0.3 * day), 0.0008
    elif weather == "OVERCAST":
        sun, sky = np.zeros(3), np.array([1.10, 1.12, 1.14]) * (0.72 + 0.28 * day)
        air, haze = np.array([205, 208, 212.0]) * (0.75 + 0.25 * day), 0.002
    else:
        sun, sky = np.zeros(3), np.array([1.05, 1.07, 1.1]) * (0.74 + 0.3 * day)
        air, haze = np.array([160, 164, 170.0]) * (0.75 + 0.25 * day), 0.0035
    return Light(weather, to_sun, sun * level, sky * level, air * level, haze)
