"""How far a prediction is: a line that is written over in a terminal, a line now and then elsewhere."""

import sys
import time
from typing import TextIO

OFTEN, SELDOM = 0.5, 10.0
"""Seconds between two words, in a terminal and elsewhere."""


class Progress:
    """Says now and then how many frames are done.

    Args:
        total: Frames; None where nobody knows.
        stream: Where to; default the process's stderr.
    """

    def __init__(self, total: int | None, stream: TextIO | None = None) -> None:
        self.total, self.stream = total, stream or sys.stderr
        self.live = self.stream.isatty()
        self._last = self._begin = time.monotonic()
        self._shown = False

    def __call__(self, done: int, skipped: int) -> None:
        """Says it, if it is time.

        Args:
            done: Frames so far.
            skipped: Of others.
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
        """A line of its own."""
        self.end()
        self.stream.write(words + "\n")
        self.stream.flush()

    def end(self) -> None:
        """Takes the line back."""
        if self._shown:
            self.stream.write("\r" + " " * 60 + "\r")
            self._shown = False
