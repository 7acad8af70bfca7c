"""Time limit for a client's work."""

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Clock that runs while a client works, and is checked between its batches.

    Example:
        >>> clock = Clock()
        >>> with clock.running(3600.0):
        ...     clock.check()
    """

    def __init__(self) -> None:
        self._seconds, self._end = 0.0, float("inf")

    @contextlib.contextmanager
    def running(self, seconds: float | None) -> Iterator[None]:
        """Limits a client's work inside to so many seconds; the server's own work is not limited."""
        self._seconds = seconds or 0.0
        self._end = float("inf") if seconds is None else time.perf_counter() + seconds
        try:
            yield
        finally:
            self._end = float("inf")

    def check(self) -> None:
        """Ends a client's work that takes too long.

        Raises:
            TimeoutError: If the client's time is over.
        """
        if self._end != float("inf") and time.perf_counter() > self._end:
            raise TimeoutError(f"not done after client_timeout={self._seconds:g} seconds")
