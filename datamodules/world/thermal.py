"""The picture that a thermal camera makes of a scene: temperatures of surfaces, whatever their colors."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from lkd.datamodules.world.backdrop import HEDGE, HILL, WALL, WINDOW
from lkd.datamodules.world.mesh import GLASS, RIM, SKIN, TIRE
from lkd.datamodules.world.paint import Solid
from lkd.datamodules.world.plants import Sprite
from lkd.datamodules.world.props import prop_mesh
from lkd.datamodules.world.seeds import THERMAL, stream
from lkd.datamodules.world.stage import SceneStage
from lkd.datamodules.world.surfaces import FIRST, GROUND, Surfaces
from lkd.datamodules.world.view import number
from lkd.datamodules.world.weather import Light, clock, daylight

Array = NDArray[np.float64]
COLDEST, WARMEST = -10.0, 30.0  # degrees over the air: black and white
NOISE, COLUMNS = (
    0.3,
    0.15,
)  # degrees, before smoothing: of pixels, and of whole columns, as uncooled sensors have
BEHIND = {HILL: -3.0, WALL: 1.0, WINDOW: 3.0, HEDGE: -1.0}
SKY = {"SUNNY": -40.0, "OVERCAST": -8.0, "RAINY": -4.0}
ENGINE = {
    TIRE: (8.0, 30.0),
    RIM: (14.0, 20.0),
}  # degrees of a car that has just stopped, and minutes to a third of it
HOOD = (22.0, 45.0)
FRONT = 0.9  # meters in front of a car's middle at which the hood begins


def measure_heat(stage: SceneStage, surfaces: Surfaces) -> Image.Image:
    """Measures temperatures from 10 degrees below the air to 30 above it, as 0 to 255.

    The model has asphalt that the sun of the last two hours has warmed and that shade has kept cool; bodies
    that the sun warms where they face it, and that the clear sky cools; hoods, wheels and brakes that are hot
    after a drive and cool down while a car stands; windscreens that mirror the cold sky; people, plants,
    houses and sky; rain, which evens out all of it; and the noise of an uncooled sensor, smoothed with the
    picture as such cameras do themselves (a third is left of the .3 degrees of pixels). The colors of RGB
    have no influence: a black car is as warm as a white one. The model lacks the warming of paint, the flow
    of heat, the cool place that a car leaves behind, and the gain control of real cameras. The numbers are
    our choice for tests and studies, and no physics.

    Args:
        stage: the scene.
        surfaces: its geometry.

    Returns:
        A picture of mode "L" as large as the finished RGB picture.
    """
    scene, light = stage.scene, stage.scene.light
    hour = clock(number(scene.view.name), scene.index)
    warmth = float(np.mean([daylight(hour - late) for late in (0.0, 1.0, 2.0)])) if light.sun.any() else 0.0
    degrees = [0.0] * FIRST
    degrees[FIRST - 1] = SKY[light.weather]
    degrees += [
        BEHIND[shape.material] + (3 * warmth if shape.material == WALL else 0)
        for shape in stage.ground.shapes
    ]
    for _, thing in stage.things:
        if isinstance(thing, Sprite):
            degrees.append(-0.5 + 1.5 * warmth)
        else:
            degrees += _faces(thing.solid, light, warmth)[thing.facing].tolist()
    heat = np.where(surfaces.ids == GROUND, _ground(stage, warmth), np.array(degrees)[surfaces.ids])
    return _expose(heat * (0.45 if light.weather == "RAINY" else 1.0), stage)


def _ground(stage: SceneStage, warmth: float) -> Array:
    """Returns the lot's own temperature (H, W)."""
    ground, shade = stage.ground, np.asarray(stage.shade, dtype=np.float64) / 255
    asphalt = 2.5 + 9 * warmth + 0.5 * ground.patchy
    soil = asphalt - 1.5 * warmth * ground.lines - (2 + 4 * warmth) * ground.lawn - warmth * ground.curb
    cool: Array = soil - (6 * warmth + 0.7) * shade
    return cool


def _faces(solid: Solid, light: Light, warmth: float) -> Array:
    """Returns degrees over the air for every face of a solid."""
    mesh = solid.mesh
    normals = mesh.normals @ solid.turn
    heat = np.full(len(mesh.material), -1.0)
    if light.sun.any():
        heat += 12 * warmth * (normals @ light.to_sun).clip(0) - 2.5 * normals[:, 2].clip(0)
    if mesh is prop_mesh("person"):
        return np.where(mesh.material == SKIN, 18.0, 8.0)
    heat = np.where(mesh.material == GLASS, -1.0 - 4 * bool(light.sun.any()), heat)
    if np.isfinite(solid.idle):
        for material, (hot, minutes) in ENGINE.items():
            heat += np.where(mesh.material == material, hot * np.exp(-solid.idle / minutes), 0)
        hood = (mesh.centers[:, 0] > FRONT) & (mesh.material != GLASS)
        heat += np.where(hood, HOOD[0] * np.exp(-solid.idle / HOOD[1]), 0)
    return heat


def _expose(heat: Array, stage: SceneStage) -> Image.Image:
    """Returns the heat as the camera gives it, with noise and smoothing."""
    rng = stream(stage.seed, stage.scene.view.name, stage.scene.index, THERMAL)
    heat = heat + NOISE * rng.standard_normal(heat.shape) + COLUMNS * rng.standard_normal(heat.shape[1])
    value = 255 * (heat - COLDEST) / (WARMEST - COLDEST)
    return Image.fromarray(value.clip(0, 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(0.8))
