"""One picture to predict on, wherever it came from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Found = dict[str, npt.NDArray[np.generic]]
"""What was found in a frame: `boxes` (N, 4), x1 y1 x2 y2 in pixels of `Frame.image`, `scores` (N,), `labels` (N,)
int64, and of a tracker `ids` (N,)."""


@dataclass(frozen=True)
class Frame:
    """A picture, upright.

    Args:
        source: The picture's path, or the clip's.
        number: Its place in the source, from 0.
        time: Seconds: of a clip since its start; of a camera's picture since the epoch; None where nobody knows.
        image: `(H, W, 3)` uint8, RGB.

    Example:
        >>> frame = Frame("a.jpg", 0, None, np.zeros((4, 6, 3), np.uint8))
        >>> frame.image.shape
        (4, 6, 3)
    """

    source: str
    number: int
    time: float | None
    image: npt.NDArray[np.uint8]


class Source(Protocol):
    """Where frames come from.

    Attributes:
        skipped: A sentence for each frame that could not be read.
    """

    skipped: list[str]

    @property
    def dropped(self) -> int:
        """Frames of a live stream that came while earlier ones were worked on."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames, of pictures the first one's."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Gives the frames, in order."""
        ...

    def close(self) -> None:
        """Lets go of files and connections."""
        ...
