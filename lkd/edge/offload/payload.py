"""`Payload`: a picture as it is sent over the link, in real bytes; without torch."""

from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from lkd.checks import expect

Pixels = npt.NDArray[np.uint8]

QUALITY = {"jpeg": 80, "webp": 70}
"""Default qualities with equal looks: on traffic cameras both close 93 % of the gap between student and teacher,
WebP with 44 % fewer bytes."""
LONGEST = {"jpeg": 65535, "webp": 16383, "png": 2**31 - 1}
"""Most pixels along a side that the formats allow."""


@dataclass(frozen=True)
class Payload:
    """How a picture is encoded before it is sent.

    The server works on the decoded picture, so a curve that uses the original pixels would promise too much.

    Args:
        format: `"jpeg"`, `"webp"` or, without loss, `"png"`.
        quality: 1 to 100, for JPEG and WebP alone. Default: 80 for JPEG, 70 for WebP.
        side: Longest side in pixels. Larger pictures are scaled down, smaller ones are left as they are.
            Default: no limit.

    Raises:
        ValueError: For another format, a quality or a side out of range, or a quality for PNG, which has
            none.

    Example:
        >>> picture = np.zeros((60, 80, 3), np.uint8)
        >>> seen, size = Payload("jpeg", side=40).sent(picture)
        >>> seen.shape, size == len(Payload("jpeg", side=40).encode(picture))
        ((30, 40, 3), True)
    """

    format: Literal["jpeg", "webp", "png"] = "webp"
    quality: int | None = None
    side: int | None = None

    def __post_init__(self) -> None:
        expect(format=self.format, among=LONGEST)
        if self.format == "png" and self.quality is not None:
            raise ValueError(
                f"quality={self.quality}: png keeps every pixel and has no quality: leave it out."
            )
        expect(quality=self.quality, ge=1, le=100, none="the format's usual one")
        expect(side=self.side, ge=1, none="the picture's own size", why="it is in pixels")

    def encode(self, image: Pixels) -> bytes:
        """Encodes a picture as the file that is sent.

        Args:
            image: `(H, W, 3)` RGB or `(H, W, 1)` gray, uint8.

        Raises:
            ValueError: If it is no such picture, or has more pixels along a side than the format allows.
        """
        picture = Image.fromarray(_checked(self.reduced(image)))
        if max(picture.size) > LONGEST[self.format]:
            raise ValueError(
                f"a picture of {picture.width} x {picture.height} pixels is too long for {self.format}, which ends at "
                f"{LONGEST[self.format]}: give side={LONGEST[self.format]} or less."
            )
        lossy: dict[str, Any] = (
            {"quality": self.quality or QUALITY[self.format]} if self.format in QUALITY else {}
        )
        file = BytesIO()
        picture.save(file, self.format, **lossy)
        return file.getvalue()

    def sent(self, image: Pixels) -> tuple[Pixels, int]:
        """Returns the picture as the server sees it, and how many bytes were sent for it.

        Args:
            image: `(H, W, 3)` RGB or `(H, W, 1)` gray, uint8.

        Returns:
            The decoded picture, with as many channels, in its reduced size, and the number of bytes. Boxes on
            it must be scaled back by the ratio of the two sizes.
        """
        file = self.encode(image)
        with Image.open(BytesIO(file)) as picture:
            seen = np.array(picture.convert("L" if image.shape[2] == 1 else "RGB"))
        return seen.reshape(*seen.shape[:2], image.shape[2]), len(file)

    def of_part(self, part: int, whole: int) -> "Payload":
        """Returns the payload for a part of a picture, at the scale of the whole one (`side`).

        Args:
            part: Longest side of the part, in pixels.
            whole: Longest side of the whole picture.

        Example:
            >>> Payload("jpeg", side=640).of_part(240, 960).side, Payload("jpeg", side=640).of_part(240, 480).side
            (160, None)
        """
        if self.side is None or self.side >= whole:
            return replace(self, side=None)
        return replace(self, side=max(1, round(self.side * part / whole)))

    def reduced(self, image: Pixels) -> Pixels:
        """Scales a picture down so that its longest side is at most `side`.

        Returns it unchanged if it is small enough.

        Args:
            image: `(H, W, 3)` RGB or `(H, W, 1)` gray, uint8.
        """
        picture = Image.fromarray(_checked(image))
        longest = max(picture.size)
        if self.side is None or longest <= self.side:
            return image
        width, height = (max(1, round(length * self.side / longest)) for length in picture.size)
        small = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        return small.reshape(height, width, image.shape[2])


def _checked(image: Pixels) -> Pixels:
    """Returns the picture as Pillow takes it: gray without its channel.

    Raises:
        ValueError: If it is not of the shape and type above.
    """
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"image is {image.dtype} of shape {image.shape}, and a payload takes uint8 of shape (H, W, 3) or (H, W, 1)."
        )
    return image[..., 0] if image.shape[2] == 1 else image
