"""A camera of the drawn parking world that looks every few seconds: cars come and go, some drive by, light and noise change.

The parking world's own frames are 100 minutes apart. Between two of them its history says at which minute each slot changed; the
sun goes on as it does, light is mixed, one moment in `BUSY` has drivers and people of another frame, and each frame has noise, blur
and rain of its own.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from lkd.datamodules.world.render import render
from lkd.datamodules.world.scene import Scene, make_scene, parked_car
from lkd.datamodules.world.stays import parked, since_change
from lkd.datamodules.world.view import CameraView, make_view, number
from lkd.datamodules.world.weather import STEP, Light, clock, make_light, sun_direction

SEED, SIZE, BUSY = 0, (640, 480), 7
MINUTES = STEP.total_seconds() / 60


class Shot(NamedTuple):
    """A frame of the sequence."""

    seconds: float
    image: np.ndarray  # (H, W, 3) uint8
    boxes: np.ndarray  # (N, 4) pixels, exact
    busy: dict[str, bool]  # by the slot's name


def shots(camera: str, index: int, every: float) -> Iterator[Shot]:
    """From frame `index` of a camera to the one behind it, a shot every so many seconds."""
    view = make_view(SEED, camera, SIZE)
    for moment in range(int(60 * MINUTES / every)):
        scene, there = scene_at(view, index, moment * every / 60, moment)
        frame = render(SEED, scene)
        busy = {str(slot): there[place] >= 0 for slot, place in zip(view.slot_ids, view.listed, strict=True)}
        yield Shot(moment * every, np.asarray(frame.image), frame.boxes, busy)


def scene_at(view: CameraView, index: int, minutes: float, moment: int) -> tuple[Scene, list[int]]:
    """What stands in front of the camera some minutes after frame `index`, and the car of each slot, or -1."""
    before, after = (parked(SEED, view, frame) for frame in (index, index + 1))
    ago = since_change(SEED, view, index + 1)
    there = [
        new if minutes >= MINUTES - since else old for old, new, since in zip(before, after, ago, strict=True)
    ]
    cars = [parked_car(SEED, view, index, slot, car, MINUTES) for slot, car in enumerate(there) if car >= 0]
    props = make_scene(SEED, view, index).props
    if moment % BUSY == BUSY - 1:
        other = make_scene(SEED, view, moment)
        cars += other.cars[sum(car >= 0 for car in parked(SEED, view, moment)) :]
        props = [*props, *other.props]
    noise = 1_000_000 * (index + 1) + moment
    return Scene(view, light_at(view, index, minutes), cars, props, noise), there


def light_at(view: CameraView, index: int, minutes: float) -> Light:
    """The light amid two frames."""
    first, last = (make_light(SEED, view.name, number(view.name), frame) for frame in (index, index + 1))
    share = minutes / MINUTES
    mixed = {
        name: (1 - share) * getattr(first, name) + share * getattr(last, name)
        for name in ("sun", "sky", "air")
    }
    hour = clock(number(view.name), index) + minutes / 60
    return replace(first, to_sun=sun_direction(SEED, view.name, hour), **mixed)
