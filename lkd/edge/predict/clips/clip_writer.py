"""A writer of annotated clips that can be played whenever the writing ends."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from lkd.edge.extra import optional

TICKS = 60_000
"""Ticks per second: times at 24, 25, 30 (also 29.97), 50 and 60 frames per second are whole ticks."""
_CODECS = {"libx264": {"preset": "veryfast", "crf": "23"}, "mpeg4": {"qscale": "4"}}
"""Encoders, of which the first that this build of FFmpeg has is used."""


class ClipWriter:
    """Writer of frames into an MP4 (H.264, or MPEG-4 where that cannot be encoded).

    The file stays readable if the program is killed; `close`, or the end of a `with` block, makes a common
    MP4 of it.

    Args:
        path: The `.mp4`.
        size: Width and height of the frames. An odd one is made even by repeating the last column or row.
        fps: Frames per second, for frames without a time. Default: 25.

    Raises:
        ImportError: If PyAV is not installed: `pip install "lightning-kd[video]"`.
        ValueError: For another suffix, or an invalid size or rate.

    Example:
        >>> with ClipWriter("out.mp4", (640, 480), 25) as clip:  # doctest: +SKIP
        ...     clip.write(frame.image, frame.time)
    """

    def __init__(self, path: str | Path, size: tuple[int, int], fps: float = 25.0) -> None:
        self.path, self.size = Path(path), size
        if self.path.suffix.lower() != ".mp4":
            raise ValueError(f"path={str(path)!r} must end with .mp4.")
        if min(size) < 1 or not 0 < fps <= 1000:
            raise ValueError(f"size={size} must be 1 or more, and fps={fps} above 0 and at most 1000.")
        av = optional("av")
        codec = next(name for name in _CODECS if name in av.codecs_available)
        flags = {"movflags": "+frag_keyframe+empty_moov+hybrid_fragmented", "flush_packets": "1"}
        self._container: Any = av.open(str(self.path), "w", options=flags)
        self._stream = self._container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        self._stream.width, self._stream.height = (side + side % 2 for side in size)
        self._stream.pix_fmt, self._stream.options = "yuv420p", _CODECS[codec]
        self._stream.gop_size = max(round(2 * fps), 1)  # a piece is written when the next one begins
        self._stream.codec_context.time_base = Fraction(1, TICKS)
        self._step, self._next, self._open = TICKS / fps, 0.0, True
        self._start: float | None = None
        self._last = -1

    def write(self, image: npt.NDArray[np.uint8], time: float | None = None) -> None:
        """Adds a frame.

        Args:
            image: `(H, W, 3)` uint8 RGB, of the writer's size.
            time: Time in seconds, as `Frame.time`; the first one begins the clip. None: one frame after the
                last.

        Raises:
            ValueError: If the picture is of another size, or the time is before the last frame's.
        """
        width, height = self.size
        if image.shape != (height, width, 3):
            raise ValueError(
                f"{self.path} is a clip of {width}x{height}, and the picture's shape is {image.shape}."
            )
        odd = ((0, height % 2), (0, width % 2), (0, 0))
        frame = optional("av").VideoFrame.from_ndarray(np.pad(image, odd, "edge"), format="rgb24")
        frame.pts, frame.time_base = self._at(time), Fraction(1, TICKS)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Writes what is still buffered, and ends the file."""
        if self._open:
            self._open = False
            self._container.mux(self._stream.encode(None))
            self._container.close()

    def _at(self, time: float | None) -> int:
        """Returns the tick of the next frame; two frames never have the same."""
        at = self._next
        if time is not None:
            if self._start is None:
                self._start = time - at / TICKS
            at = (time - self._start) * TICKS
        tick = max(round(at), self._last + 1)
        if tick - at > self._step:
            raise ValueError(
                f"time={time} lies before the last frame of {self.path}: write frames in their order."
            )
        self._next, self._last = tick + self._step, tick
        return tick

    def __enter__(self) -> Self:
        """Returns the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the file, also after an error or Ctrl-C."""
        self.close()
