"""Frames of a video file or of a live stream, with their times, upright."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lkd.checks import expect
from lkd.edge.predict.clips.clock import ClipClock
from lkd.edge.predict.clips.decode import Connection, UnreadableError, is_address, shown, upright
from lkd.edge.predict.clips.joining import Joining
from lkd.edge.predict.clips.live import Latest
from lkd.edge.predict.frame import Frame
from lkd.edge.predict.sentences import Sentences


class VideoSource:
    """The frames of a clip (mp4, avi, mkv, mjpeg, ts, ...) or of a stream (RTSP, RTMP, HTTP, UDP, SRT).

    A clip gives every frame, with its time since the start by the clip's own timestamps, so that a varying
    frame rate is right. A live stream gives its newest frame; frames that come while the last one is worked
    on are dropped and counted. Its times are seconds since the epoch. An address that announces a length or a
    duration is a clip.

    A clip can be iterated once.

    Args:
        path: A file, or the address of a stream.
        every: Take only every n-th frame. Default: all.
        reconnect: Most tries in a row to join a stream that broke off. Default: 5; 0 for never.
        timeout: Seconds that opening, and each read, may take. Default: 10. When a connection gave frames for
            longer than this, tries are counted anew.
        backoff: Seconds before the first try to join again; each further try waits twice as long, up to half
            a minute.

    Attributes:
        size: Width and height of the upright picture.
        rate: Frames per second that are taken, by the clip's own metadata, or None.
        live: Whether it is a live stream.
        skipped: A sentence for each damaged frame, or for a clip that breaks off.

    Raises:
        ImportError: If PyAV is not installed: `pip install "lightning-kd[video]"`.
        FileNotFoundError: If there is no such file.
        ValueError: For an address of another kind, an invalid number, or a file without video or without
            frames.

    Example:
        >>> for frame in VideoSource("gate.mp4", every=5):  # doctest: +SKIP
        ...     print(frame.number, frame.time, frame.image.shape)
    """

    def __init__(
        self,
        path: str | Path,
        every: int = 1,
        reconnect: int = 5,
        timeout: float = 10.0,
        backoff: float = 1.0,
    ) -> None:
        expect(every=every, ge=1)
        expect(reconnect=reconnect, backoff=backoff, ge=0)
        expect(timeout=timeout, gt=0)
        self.path, self.every, self.skipped = path, every, Sentences()
        self._name, self._joining = shown(path), Joining(path, reconnect, timeout, backoff)
        self._connection = Connection(path, timeout)
        rate, self.live = self._connection.rate, not self._connection.ends
        self.rate = rate / every if rate else None
        self._latest = Latest(self._joining, self._connection, every) if self.live else None
        self._frames = self._newest(self._latest) if self._latest else self._all()
        try:
            self._first = next(self._frames, None)
        except BaseException:
            self.close()
            raise
        if self._first is None:
            self.close()
            why = f": {self.skipped[0]}" if self.skipped else "."
            raise UnreadableError(f"{self._name} has a video without frames that can be decoded{why}")
        self.size = self._first.image.shape[1], self._first.image.shape[0]

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames; those of a live stream until it is over for good."""
        if self._latest is not None:
            self._latest.dropped = 0  # frames before the first read could not be taken
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        yield from self._frames

    @property
    def dropped(self) -> int:
        """Frames of a live stream that came while earlier ones were worked on; 0 for a clip."""
        return self._latest.dropped if self._latest else 0

    @property
    def joined(self) -> int:
        """How often the stream was joined again."""
        return self._joining.joined

    @property
    def notes(self) -> list[str]:
        """Events of the connection and the clock, one sentence each; logged as they happen."""
        return self._joining.notes

    def close(self) -> None:
        """Closes the file or connection."""
        if self._latest is not None:
            self._latest.close()
        else:
            self._connection.close()

    def _newest(self, latest: Latest) -> Iterator[Frame]:
        self.skipped = latest.skipped
        while (taken := latest.take()) is not None:
            number, time, picture = taken
            yield Frame(self._name, number, time, upright(picture))

    def _all(self) -> Iterator[Frame]:
        clock = ClipClock(self._name, self._connection.rate, self._joining.say)
        if not self._connection.timed:
            self._joining.say(
                f"{self._name} has no timestamps: its times count {self._connection.rate or 25:g} frames a second, whatever it was."
            )
        for number, (stamp, picture) in enumerate(self._pictures()):
            if picture is None:
                self.skipped.append(f"frame {number} of {self._name} is damaged and skipped.")
                continue
            time = clock(number, stamp)
            if number % self.every == 0:
                yield Frame(self._name, number, time, upright(picture))

    def _pictures(self) -> Iterator[tuple[float | None, Any]]:
        """Yields timestamps and frames of a clip, each once, even if the connection breaks off in between."""
        seen = -1
        while True:
            try:
                for place, (stamp, picture) in enumerate(self._connection):
                    if place > seen:
                        self._joining.gave()
                        seen = place
                        yield stamp, picture
                return
            except UnreadableError as error:
                self._connection.close()
                connection = self._joining.again(str(error)) if is_address(self.path) else None
                if connection is None:
                    self.skipped.append(f"{error}; its rest is missing.")
                    return
                self._connection = connection
