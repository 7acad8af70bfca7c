"""Random streams: every number in the world comes from (seed, camera, index, stream) alone."""

import zlib

import numpy as np

CAMERA, LIGHT, CARS, DAY, PROPS, SENSOR, GROUND, FRAME, HISTORY, THERMAL, RANGE = range(11)  # streams


def stream(seed: int, name: str, index: int, kind: int) -> np.random.Generator:
    """Returns the generator for one purpose: the same four arguments always give the same numbers.

    Args:
        seed: seed of the world.
        name: name of the camera, or "" for what all cameras share.
        index: number of the frame or day; 0 where neither matters.
        kind: one of the streams above.
    """
    return np.random.default_rng([seed, zlib.crc32(name.encode()), index, kind])
