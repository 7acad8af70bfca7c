"""Reading of pictures, without torch: upright, in 8 bits per channel, and whole, or refused by name."""

from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

ORIENTATION = 0x0112  # the EXIF tag: how the camera was held
DAMAGED = (OSError, SyntaxError, ValueError, RuntimeError)
"""Errors that Pillow raises for damaged files; the last for AVIF."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def pixels(file: Path | BinaryIO, name: str, mode: Literal["RGB", "L"] = "RGB") -> npt.NDArray[np.uint8]:
    """Decodes a picture as uint8, (H, W, 3) RGB or (H, W) gray.

    A picture whose EXIF data say that the camera was turned is turned upright, as annotation tools and
    Ultralytics do; transparency is dropped, and of several pages the first is taken.

    Args:
        file: a path, or an open file.
        name: name of the picture in messages.
        mode: Pillow's mode of the result.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be decoded, or has more than 8 bits per channel.
    """
    try:
        with Image.open(file) as image:
            deep = _is_deep(image)
            image.load()  # first: Pillow itself turns a TIFF upright while loading, and then says so
            turn = UPRIGHT.get(_orientation(image))
            upright = image if turn is None else image.transpose(turn)
            found = np.array(upright if upright.mode == mode else upright.convert(mode))
    except FileNotFoundError:
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(_too_large(name, error)) from error
    except DAMAGED as error:
        raise ValueError(f"the image {name} is damaged and cannot be decoded ({error}).") from error
    if deep:
        raise ValueError(
            f"the image {name} has more than 8 bits a channel: scale it to 8 bits (0 to 255) first."
        )
    return found


def image_size(path: Path) -> tuple[int, int]:
    """Returns the (width, height) of the upright picture, without decoding it if possible.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no picture; the message names it.
    """
    try:
        with Image.open(path) as image:
            if image.format == "TIFF":  # Pillow itself turns it upright while loading
                image.load()
            width, height = image.size
            sideways = _orientation(image) >= 5
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the image {path} is missing.") from error
    except Image.DecompressionBombError as error:
        raise ValueError(_too_large(str(path), error)) from error
    except DAMAGED as error:
        raise ValueError(f"the image {path} is damaged and cannot be opened ({error}).") from error
    return (height, width) if sideways else (width, height)


def _too_large(name: str, error: Exception) -> str:
    return (
        f"the image {name} has too many pixels to be opened, as a file that is made to fill the memory has ({error}): make it "
        "smaller, or, if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS."
    )


def _orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, 1 to 8; 1, upright, if there is none or it cannot be read."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a broken EXIF block raises anything, and says nothing about the picture
        return 1


def _is_deep(image: Image.Image) -> bool:
    """Returns whether there are more than 8 bits per channel, which Pillow would clip or drop silently."""
    if image.mode.startswith(("I", "F")):
        return True
    raw = " ".join(str(tile[3]) for tile in getattr(image, "tile", ()))  # such as "RGB;16B", in color
    return any(order in raw for order in (";16B", ";16L", ";16N"))
