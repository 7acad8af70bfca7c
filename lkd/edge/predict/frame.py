"""One picture to predict on, wherever it came from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lkd.edge.predict.sentences import Sentences

Found = dict[str, npt.NDArray[np.generic]]
"""What was found in a frame: `boxes` (N, 4), x1 y1 x2 y2 in pixels of `Frame.image`, `scores` (N,), `labels` (N,)
int64, and of a tracker `ids` (N,)."""


@dataclass(frozen=True)
class Frame:
    """A picture, upright.

    Args:
        source: The picture's path, or the clip's.
        number: Its place in the source, from 0.
        time: Seconds: since the start of a clip, or since the epoch for a camera's picture; None if not
            known.
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


class FrameSource(Protocol):
    """A source of frames.

    Attributes:
        skipped: A sentence for each of the first frames that could not be read, and their number.
    """

    skipped: Sentences

    @property
    def dropped(self) -> int:
        """Number of frames of a live stream that came while earlier ones were worked on."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames; for pictures those of the first one."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames, in order."""
        ...

    def close(self) -> None:
        """Closes files and connections."""
        ...
