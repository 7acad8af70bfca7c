"""One connection to a clip or a stream, which gives its pictures upright; by PyAV."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lkd.edge.extra import optional

_SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "udp", "rtp", "srt", "tcp")
FASTEST = 300
"""Most frames per second; a higher number is the tick of a clock, where frames come irregularly."""
NO_TIMESTAMPS = 0x80
"""Flag of FFmpeg's formats: AVFMT_NOTIMESTAMPS."""
_LISTS = ("hls", "dash")
"""Formats that are a list of pieces: the length of the list says nothing of the stream's."""


class UnreadableError(ValueError):
    """Error for a clip or stream that cannot be opened, or breaks off; the message names it."""


def is_address(path: str | Path) -> bool:
    """Returns whether this is the address of a stream, and no file.

    Example:
        >>> is_address("rtsp://camera/1"), is_address("clips/a.mp4")
        (True, False)
    """
    return isinstance(path, str) and bool(re.match(r"[a-z][a-z0-9+.-]*://", path, re.I))


def shown(path: str | Path) -> str:
    """Returns a path or address for display, without passwords.

    Example:
        >>> shown("rtsp://admin:secret@10.0.0.7/live?token=secret")
        'rtsp://***@10.0.0.7/live?***'
    """
    return (
        re.sub(r"\?.*", "?***", re.sub(r"(://)[^/?#]*@", r"\1***@", str(path)))
        if is_address(path)
        else str(path)
    )


class Connection:
    """An open clip or stream.

    Args:
        path: A file, or the address of a stream.
        timeout: Seconds that opening it, and each read, may take.

    Attributes:
        ends: Whether the stream has a known end, as a file has and a camera has not.
        rate: Frames per second by its own metadata, or None if they have none, or an impossible one.
        timed: Whether it has timestamps, which a plain sequence of pictures has not.

    Raises:
        FileNotFoundError: If there is no such file.
        UnreadableError: If it is no video, or cannot be reached.
    """

    def __init__(self, path: str | Path, timeout: float) -> None:
        self.name, self._packets = shown(path), 0
        address, options = _address(path)
        self._errors = optional("av").error.FFmpegError
        try:
            self._container: Any = optional("av").open(address, options=options, timeout=timeout)
        except self._errors as error:
            what = "cannot be reached" if is_address(path) else "is no video that can be read"
            raise UnreadableError(
                f"{self.name} {what}: {_reason(error)}."
            ) from None  # FFmpeg's own message has the password
        videos = self._container.streams.video
        if not videos:
            kinds = sorted({stream.type for stream in self._container.streams}) or ["nothing"]
            self.close()
            raise UnreadableError(f"{self.name} has no video in it, but {' and '.join(kinds)}.")
        self._stream = videos[0]
        if self._stream.codec_context.name == "mjpeg":  # otherwise it gives damaged pictures silently
            self._stream.codec_context.options = {"err_detect": "explode"}
        known = self._container.format.name not in _LISTS and self._container.size > 0
        self.ends = not is_address(path) or known or self._container.duration is not None
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.rate = float(rate) if rate and rate <= FASTEST else None
        self.timed = not self._container.format.flags & NO_TIMESTAMPS

    def __iter__(self) -> Iterator[tuple[float | None, Any]]:
        """Yields each frame's time in seconds on the stream's own clock, and the frame (None if damaged).

        Raises:
            UnreadableError: If the stream breaks off.
        """
        try:
            for packet in self._container.demux(self._stream):
                self._packets = self._counted(packet)
                yield from self._decoded(packet)
        except self._errors as error:
            raise UnreadableError(f"{self.name} broke off: {_reason(error)}") from None
        if self._packets < self._stream.frames:
            raise UnreadableError(
                f"{self.name} broke off: {self._packets} of the {self._stream.frames} frames that it announces are there"
            )

    def _counted(self, packet: Any) -> int:
        """Returns the container's number of frames up to a packet, with the empty ones that AVI may have."""
        if not packet.size:
            return self._packets
        at = packet.dts if self._container.format.name == "avi" and packet.dts is not None else 0
        return max(self._packets, at) + 1

    def _decoded(self, packet: Any) -> Iterator[tuple[float | None, Any]]:
        try:
            frames = packet.decode()
        except self._errors:
            yield None if packet.pts is None else float(packet.pts * packet.time_base), None
            return
        for frame in frames:
            yield frame.time, None if frame.is_corrupt else frame

    def close(self) -> None:
        """Closes the file or connection."""
        self._container.close()


def upright(frame: Any) -> npt.NDArray[np.uint8]:
    """Returns the picture of a decoded frame, `(H, W, 3)` uint8 RGB, turned and mirrored as the clip says.

    Raises:
        UnreadableError: If it has to be turned by something else than quarters.
    """
    image: npt.NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    # a point (x, y) is shown at (a x + c y, b x + d y)
    (a, b), (c, d) = np.sign(np.frombuffer(bytes(matrix), np.int32).reshape(3, 3)[:2, :2]).tolist()
    if a and d and not (b or c):
        return np.ascontiguousarray(image[::d, ::a])
    if b and c and not (a or d):
        return np.ascontiguousarray(image.transpose(1, 0, 2)[::b, ::c])
    raise UnreadableError(
        f"the clip says that its picture is turned by {frame.rotation} degrees, which is no quarter."
    )


def _address(path: str | Path) -> tuple[str, dict[str, str]]:
    """Returns an address and options for FFmpeg, which itself guards where a playlist may lead."""
    if not is_address(path):
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"path={str(path)!r} does not exist, or is no file; give a clip or an address."
            )
        return f"file:{path}", {}
    scheme = str(path).split(":")[0].lower()
    if scheme not in _SCHEMES:
        raise ValueError(
            f"path={shown(path)!r} begins with {scheme}://, which is not read; give a file or an address that begins with "
            f"{', '.join(_SCHEMES)}."
        )
    return str(path), {"rtsp_transport": "tcp"} if scheme.startswith("rtsp") else {}


def _reason(error: Any) -> str:
    """Returns FFmpeg's message without the address, which may hold a password."""
    return (
        "it took too long"
        if type(error).__name__ == "ExitError"
        else str(error.strerror or type(error).__name__)
    )
