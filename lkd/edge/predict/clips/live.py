"""The newest frame of a live stream: a thread decodes, so that a slow reader misses frames, not time."""

import threading
import time
from typing import Any

from lkd.edge.predict.clips.decode import Connection, UnreadableError
from lkd.edge.predict.clips.joining import Joining
from lkd.edge.predict.sentences import Sentences

STEP = 0.2
"""Seconds between two checks for Ctrl-C while no frame comes."""


class Latest:
    """Thread that decodes a stream, and holds the newest frame.

    Args:
        joining: How the stream is joined again when it breaks off.
        connection: The first connection.
        every: Keep only every n-th frame.

    Attributes:
        dropped: Number of frames that were replaced before they were taken.
        skipped: A sentence for each of the first damaged frames, and their number.
    """

    def __init__(self, joining: Joining, connection: Connection, every: int) -> None:
        self.dropped, self.skipped = 0, Sentences()
        self._joining, self._connection, self._every = joining, connection, every
        self._epoch = time.time() - time.monotonic()  # fixed, since a machine's clock is set now and then
        self._newest: tuple[int, float, Any] | None = None
        self._fault: BaseException | None = None
        self._number, self._over = 0, False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="lkd-stream", daemon=True)
        self._thread.start()

    def take(self) -> tuple[int, float, Any] | None:
        """Waits for a new frame; returns its number, time since the epoch and picture, or None."""
        with self._news:
            while self._newest is None and not self._over:
                self._news.wait(STEP)
            if self._fault is not None:
                raise self._fault
            newest, self._newest = self._newest, None
            return newest

    def close(self) -> None:
        """Ends the thread: at once, or when its read returns."""
        self._joining.stopped.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        try:
            self._read()
        except BaseException as error:  # raised again in `take`: a thread's own end would be silent
            self._fault = error
        finally:
            self._connection.close()
            with self._news:
                self._over = True
                self._news.notify_all()

    def _read(self) -> None:
        while True:
            why = f"{self._connection.name} ended"
            try:
                for _, picture in self._connection:
                    if self._joining.stopped.is_set():
                        return
                    self._put(picture)
            except UnreadableError as error:
                why = str(error)
            self._connection.close()
            connection = None if self._joining.stopped.is_set() else self._joining.again(why)
            if connection is None:
                return
            self._connection = connection

    def _put(self, picture: Any) -> None:
        number, self._number = self._number, self._number + 1
        self._joining.gave()
        if picture is None:
            self.skipped.append(f"frame {number} of {self._connection.name} is damaged and skipped.")
        elif number % self._every == 0:
            with self._news:
                self.dropped += self._newest is not None
                self._newest = number, self._epoch + time.monotonic(), picture
                self._news.notify_all()
