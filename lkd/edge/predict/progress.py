"""Progress of a prediction: a line that is updated in a terminal, a new line now and then elsewhere."""

import sys
import time
from typing import TextIO

OFTEN, SELDOM = 0.5, 10.0
"""Seconds between two reports, in a terminal and elsewhere."""


class Progress:
    """Reporter that reports now and then how many frames are done.

    Args:
        total: Number of frames; None if it is not known.
        stream: Stream to write to; default the process's stderr.
    """

    def __init__(self, total: int | None, stream: TextIO | None = None) -> None:
        self.total, self.stream = total, stream or sys.stderr
        self.live = self.stream.isatty()
        self._last = self._begin = time.monotonic()
        self._shown = False

    def __call__(self, done: int, skipped: int) -> None:
        """Reports the progress, if it is time.

        Args:
            done: Frames done so far.
            skipped: Frames skipped so far.
        """
        now = time.monotonic()
        if now - self._last < (OFTEN if self.live else SELDOM):
            return
        self._last, rate = now, done / max(now - self._begin, 1e-9)
        of = "" if self.total is None else f" of {self.total}"
        lost = f", {skipped} skipped" if skipped else ""
        words = f"{done}{of} frames{lost}, {rate:.1f} a second"
        self.stream.write(f"\r{words:<60}" if self.live else words + "\n")
        self.stream.flush()
        self._shown = self.live

    def say(self, words: str) -> None:
        """Prints words on a line of their own."""
        self.end()
        self.stream.write(words + "\n")
        self.stream.flush()

    def end(self) -> None:
        """Clears the progress line."""
        if self._shown:
            self.stream.write("\r" + " " * 60 + "\r")
            self._shown = False
