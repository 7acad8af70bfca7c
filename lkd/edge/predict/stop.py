"""Signals that end a prediction after the present frame, with complete files.

A second one ends it at once.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, Self

from lkd.edge.predict.frame import Frame

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class _StoppedError(BaseException):
    """Exception that ends the wait for a frame.

    It is a `BaseException`, so that no code on the way handles it as an error.
    """


class Stop:
    """Handler of SIGINT, SIGTERM and SIGHUP inside of a `with` block; a signal that is ignored stays ignored.

    Attributes:
        number: Number of the signal that came, or 0.

    Example:
        >>> with Stop() as stop:
        ...     signal.raise_signal(signal.SIGTERM)
        >>> stop.number == signal.SIGTERM
        True
    """

    def __init__(self) -> None:
        self.number, self._waits = 0, False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        return kind is _StoppedError  # the signal came just as the wait ended

    def take(self, frames: Iterator[Frame]) -> Frame | None:
        """Returns the next frame, or None at the end or once a signal comes, as a stream may be silent."""
        try:
            self._waits = True
            return None if self.number else next(frames, None)
        except _StoppedError:
            return None
        finally:
            self._waits = False

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            sys.exit(128 + number)
        self.number = number
        if self._waits:
            raise _StoppedError
