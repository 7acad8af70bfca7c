"""Joining a stream that broke off again: a bounded number of times, with longer and longer waits, and said."""

import logging
import threading
import time
from pathlib import Path

from lkd.edge.predict.clips.decode import Connection, UnreadableError

log = logging.getLogger(__name__)
LONGEST = 30.0
"""Seconds between two tries, at the most."""


class Joining:
    """Opens a clip or stream, and opens it again.

    Args:
        path: A file, or the address of a stream.
        tries: How often in a row. A connection that gave frames for longer than `timeout` starts the count anew.
        timeout: Seconds that opening, and each read, may take.
        backoff: Seconds before the first try; each further one waits twice as long.

    Attributes:
        notes: What happened, a sentence each.
        joined: How often the stream was joined again.
        stopped: Set by whoever wants no more of it.
    """

    def __init__(self, path: str | Path, tries: int, timeout: float, backoff: float) -> None:
        self.path, self.tries, self.timeout, self.backoff = path, tries, timeout, backoff
        self.notes, self.joined, self.stopped = list[str](), 0, threading.Event()
        self._tried = 0
        self._since = self._frame = time.monotonic()  # when it was joined, and gave its last frame

    def gave(self) -> None:
        """Is told of each frame that comes."""
        self._frame = time.monotonic()

    def again(self, why: str) -> Connection | None:
        """A new connection, or None if it is not to be had.

        Args:
            why: What ended the last one, a sentence without its stop.
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
        """Keeps a sentence, and logs it at once: a stream may go on for days."""
        self.notes.append(sentence)
        log.warning(sentence)
