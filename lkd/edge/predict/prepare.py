"""Conversion of a picture to the student's input, and of its boxes back, by the student's metadata."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lkd.edge.nms import Array

MULTIPLE = "multiple_of"
"""In `resize`, of an input whose size follows from the picture's: both sides are padded to multiples of this."""


class Preparation:
    """Resizing, padding and normalization of pictures, in NumPy and Pillow alone.

    Args:
        entry: The student's input, as its metadata describe it (docs/deploy.md).
        who: Name of the student, for messages.

    Raises:
        ValueError: If the student takes no pictures, or their normalization is not known.

    Example:
        >>> entry = {"name": "x", "shape": ["batch", 3, 4, 4], "layout": "NCHW, pixels, RGB", "resize": {"how": "stretch"},
        ...          "normalization": {"scale": 255.0, "mean": [0.5], "std": [0.25]}}
        >>> x, ratio = Preparation(entry, "student.onnx")(np.full((8, 6, 3), 255, np.uint8))
        >>> x.shape, float(x[0, 0, 0, 0]), ratio
        ((1, 3, 4, 4), 2.0, (1.5, 2.0))
    """

    def __init__(self, entry: Mapping[str, Any], who: str) -> None:
        layout, how = entry.get("layout", ""), entry.get("normalization")
        if "pixels" not in layout:
            raise ValueError(
                f"{who} takes {entry['name']!r} as {layout or 'something unknown'}, and no pictures; python cli.py predict --config "
                "C.yaml --ckpt_path X.ckpt, without a SOURCE, predicts the data of a configuration."
            )
        if how is None:
            raise ValueError(
                f"{who} does not say how its pictures are normalized (normalization is null): export it with --mean and --std, or "
                "give the data module mean and std."
            )
        if how["scale"] not in (1.0, 255.0):
            raise ValueError(
                f"{who} takes pixels from 0 to {how['scale']:g}, and pictures have 0 to 255: its numbers would mean something else."
            )
        self.who, self.name, self.resize = who, str(entry["name"]), entry["resize"]
        self.channels, self.height, self.width = entry["shape"][1:]
        std = np.asarray(how["std"], np.float32).reshape(-1, 1, 1)
        self._factor = 1 / (np.float32(how["scale"]) * std)
        self._offset = -np.asarray(how["mean"], np.float32).reshape(-1, 1, 1) / std
        self._padded: tuple[Any, ...] = ()
        self._warned = False
        self._buffer = np.zeros(0, np.float32)

    def __call__(self, image: npt.NDArray[np.uint8]) -> tuple[Array, tuple[float, float]]:
        """Returns the input for one picture.

        Args:
            image: `(H, W, 3)` uint8, RGB.

        Returns:
            `(1, C, h, w)` float32, which the next call overwrites; and the ratio of the picture's pixels to
            the input's, along x and y.
        """
        (h, w), (height, width) = self.sizes(*image.shape[:2])
        picture = Image.fromarray(image)
        if self.channels == 1:
            picture = picture.convert("L")
        if picture.size != (w, h):
            picture = picture.resize((w, h), Image.Resampling.BILINEAR)
        small = np.asarray(picture).reshape(h, w, self.channels).transpose(2, 0, 1)
        if self._padded != (h, w, height, width):
            gray = np.broadcast_to(
                self.resize.get("pad_value", 0) * self._factor + self._offset, (self.channels, 1, 1)
            )
            self._buffer = np.tile(gray.astype(np.float32), (1, 1, height, width))
            self._padded = (h, w, height, width)
        view = self._buffer[0, :, :h, :w]
        np.multiply(small, self._factor, out=view)
        if self._offset.any():
            view += self._offset
        return self._buffer, (image.shape[1] / w, image.shape[0] / h)

    def sizes(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Returns height and width of the scaled picture, and of the input around it."""
        if self.resize["how"] == "stretch":
            return (self.height, self.width), (self.height, self.width)
        longer = self.resize["longer_side"]
        scale = longer / max(height, width)
        h, w = max(1, round(height * scale)), max(1, round(width * scale))
        if multiple := self.resize.get(MULTIPLE):
            return (h, w), (-(-h // multiple) * multiple, -(-w // multiple) * multiple)
        if h > self.height or w > self.width:
            scale = min(self.height / height, self.width / width)
            self._warn_of_size(height, width, h, w)
            h, w = (
                max(1, min(self.height, round(height * scale))),
                max(1, min(self.width, round(width * scale))),
            )
        return (h, w), (self.height, self.width)

    def _warn_of_size(self, height: int, width: int, h: int, w: int) -> None:
        """Warns once of a picture that is scaled down to another shape, as a folder may have many sizes."""
        if not self._warned:
            self._warned = True
            fits = f"[{-(-h // 32) * 32}, {-(-w // 32) * 32}]"
            warnings.warn(
                f"{self.who} takes {self.height} x {self.width} pixels (height x width), and a picture of {height} x {width} has {h} x {w} "
                f"at its scale: such pictures are made smaller than those that it was trained on. --input_size={fits} of export "
                "makes a file for them.",
                stacklevel=4,
            )


def back(found: Mapping[str, Array], ratio: tuple[float, float], height: int, width: int) -> dict[str, Array]:
    """Returns boxes in pixels of the picture, clipped to it; drops those that lie in the padding alone.

    Args:
        found: `boxes (N, 4)` in pixels of the input, and other entries with N rows.
        ratio: Ratio of the picture's pixels to the input's, along x and y.
        height: Height of the picture.
        width: Width of the picture.

    Example:
        >>> boxes = np.array([[0, 0, 8, 8], [0, 70, 8, 90]], np.float32)
        >>> back({"boxes": boxes, "scores": np.array([0.9, 0.8])}, (2.0, 2.0), 100, 12)["boxes"].tolist()
        [[0.0, 0.0, 12.0, 16.0]]
    """
    boxes = found["boxes"] * np.array([*ratio, *ratio], np.float32)
    boxes = boxes.clip(0, np.array([width, height, width, height], np.float32))
    inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return {name: (boxes if name == "boxes" else rows)[inside] for name, rows in found.items()}
