"""Reconnection to a stream that broke off: a limited number of times, with growing waits, and reported."""

import logging
import threading
import time
from pathlib import Path

from lkd.edge.predict.clips.decode import Connection, UnreadableError
from lkd.edge.predict.sentences import Sentences

log = logging.getLogger(__name__)
LONGEST = 30.0
"""Most seconds between two tries."""


class Joining:
    """Connection to a clip or stream that opens it again after it breaks off.

    Args:
        path: A file, or the address of a stream.
        tries: Most tries in a row. A connection that gave frames for longer than `timeout` starts the count
            anew.
        timeout: Seconds that opening, and each read, may take.
        backoff: Seconds before the first try; each further try waits twice as long.

    Attributes:
        notes: First events, one sentence each.
        joined: How often the stream was joined again.
        stopped: Set by the caller to end the tries.
    """

    def __init__(self, path: str | Path, tries: int, timeout: float, backoff: float) -> None:
        self.path, self.tries, self.timeout, self.backoff = path, tries, timeout, backoff
        self.notes, self.joined, self.stopped = Sentences(), 0, threading.Event()
        self._tried = 0
        self._since = self._frame = time.monotonic()  # times of the last connection, and of its last frame

    def gave(self) -> None:
        """Records that a frame came."""
        self._frame = time.monotonic()

    def again(self, why: str) -> Connection | None:
        """Opens a new connection, or returns None if that fails.

        Args:
            why: What ended the last one, a sentence without its period.
        """
        if self._frame - self._since > self.timeout:
            self._tried = 0
        while self._tried < self.tries:
            wait = min(self.backoff * 2**self._tried, LONGEST)
            self._tried += 1
            if self.stopped.wait(wait):
                return None
            try:
                connection = Connection(self.path, self.timeout)
            except UnreadableError as error:
                log.info("try %d of %d: %s", self._tried, self.tries, error)
                continue
            self.joined += 1
            self._since = self._frame = time.monotonic()
            self.say(f"{why}; it is joined again, at try {self._tried} of {self.tries}.")
            return connection
        self.say(f"{why}; it is given up after {self.tries} tries in a row to join it again.")
        return None

    def say(self, sentence: str) -> None:
        """Keeps a sentence, and logs it at once, since a stream may go on for days."""
        self.notes.append(sentence)
        log.warning(sentence)
