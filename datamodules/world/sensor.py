"""Effects of air and camera on a picture: haze, rain, blur, vignetting, noise."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from lkd.datamodules.world.seeds import SENSOR, stream

if TYPE_CHECKING:
    from .scene import Scene


def expose(image: Image.Image, seed: int, scene: "Scene", far: NDArray[np.float64]) -> Image.Image:
    """Returns the picture as the camera stores it.

    Args:
        image: RGB of the scene.
        seed: seed of the world.
        scene: what was drawn.
        far: distance of every pixel of the ground in meters, (H, W).
    """
    light, rng = scene.light, stream(seed, scene.view.name, scene.index, SENSOR)
    rainy = light.weather == "RAINY"
    if rainy:
        image = _streaks(image, rng)
    image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.15, 0.4) + 0.25 * rainy))
    width, height = image.size
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)
    vignette = 1.03 - 0.09 * (x[None] ** 2 + y[:, None] ** 2)
    haze = (1 - np.exp(-light.haze * 0.7 * far)).astype(np.float32)[..., None]
    pixels = np.asarray(image, dtype=np.float32)
    pixels = pixels + (light.air.astype(np.float32) - pixels) * haze
    if rainy:
        pixels = 116 + (pixels - 116) * 0.86
    noise = rng.standard_normal((height, width, 1), dtype=np.float32)
    pixels = pixels * vignette[..., None] + noise * np.float32(rng.uniform(1.5, 3.0) + 1.5 * rainy)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _streaks(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Adds falling rain, and some drops on the lens."""
    width, height = image.size
    veil = Image.new("L", image.size)
    draw = ImageDraw.Draw(veil)
    slant = rng.normal(0, 0.15)
    for x, y, length in rng.uniform(0, 1, (220, 3)):
        x, y, length = x * width, y * height, (0.01 + 0.03 * length) * height
        draw.line([(x, y), (x + slant * length, y + length)], fill=int(26 + 20 * length / height / 0.04))
    blurred = image.reduce(2).filter(ImageFilter.BoxBlur(width / 200)).resize(image.size)
    drops = Image.new("L", image.size)
    draw = ImageDraw.Draw(drops)
    for x, y, radius in rng.uniform(0, 1, (int(rng.integers(2, 9)), 3)):
        x, y, radius = x * width, y * height, (0.006 + 0.02 * radius) * width
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=190)
    image = Image.composite(blurred, image, drops.filter(ImageFilter.BoxBlur(2)))
    return ImageChops.screen(image, Image.merge("RGB", [veil] * 3))
