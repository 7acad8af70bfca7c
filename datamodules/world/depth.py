"""The picture that a depth camera makes of a scene."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lkd.datamodules.world.seeds import RANGE, stream
from lkd.datamodules.world.stage import SceneStage
from lkd.datamodules.world.surfaces import Surfaces

NEAREST, FARTHEST = 2.0, 80.0  # meters; nothing beyond is measured
SPREAD = 0.0008  # of a measurement: deviation in meters over squared meters, as of a stereo camera
EDGE = 0.15  # where depth jumps by more than this share between neighboring pixels, half of them are lost


def measure_depth(stage: SceneStage, surfaces: Surfaces) -> Image.Image:
    """Measures depth along the optical axis, as 8 bits.

    A value v from 1 (far) to 255 stands for `d = 80 (2 / 80)^((v - 1) / 254)` meters; 0 means no measurement.
    The model has the geometry of all that RGB shows, a limited range, noise that grows with the square of the
    distance, and holes where depth jumps. It lacks glass, wet ground and sunlight, which trouble real
    sensors.

    Args:
        stage: the scene.
        surfaces: its geometry.

    Returns:
        A picture of mode "L" as large as the finished RGB picture.
    """
    rng = stream(stage.seed, stage.scene.view.name, stage.scene.index, RANGE)
    far = np.minimum(surfaces.depth.astype(np.float64), 1e4)
    measured = np.maximum(far + SPREAD * far**2 * rng.standard_normal(far.shape), NEAREST)
    lost = (far > FARTHEST) | (_jumps(far) & (rng.random(far.shape) < 0.5))
    value = 1 + 254 * np.log(FARTHEST / measured.clip(NEAREST, FARTHEST)) / np.log(FARTHEST / NEAREST)
    return Image.fromarray(np.where(lost, 0, np.round(value)).astype(np.uint8))


def _jumps(far: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns where depth differs from that of the pixel to the right or below."""
    jumps = np.zeros(far.shape, dtype=bool)
    jumps[:, :-1] |= abs(np.diff(far, axis=1)) > EDGE * far[:, :-1]
    jumps[:-1] |= abs(np.diff(far, axis=0)) > EDGE * far[:-1]
    return jumps
