"""Pictures as tensors; `lkd.pictures` reads them."""

from pathlib import Path
from typing import BinaryIO, Literal

import torch
from torch import Tensor

from lkd.pictures import pixels


def read_image(path: Path, mode: Literal["RGB", "L"] = "RGB") -> Tensor:
    """Reads an image file as uint8, (3, H, W) RGB or (1, H, W) gray; see `decode`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be decoded, or has more than 8 bits per channel; the message names it.
    """
    try:
        return decode(path, str(path), mode)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the image {path} is missing.") from error


def decode(file: Path | BinaryIO, name: str, mode: Literal["RGB", "L"] = "RGB") -> Tensor:
    """Decodes a picture as uint8, (3, H, W) RGB or (1, H, W) gray; see `lkd.pictures.pixels`."""
    found = torch.from_numpy(pixels(file, name, mode))
    return found.permute(2, 0, 1) if mode == "RGB" else found[None]
