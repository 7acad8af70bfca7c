"""How long a client may work."""

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Runs while a client works, and is looked at between its batches.

    Example:
        >>> clock = Clock()
        >>> with clock.running(3600.0):
        ...     clock.check()
    """

    def __init__(self) -> None:
        self._seconds, self._end = 0.0, float("inf")

    @contextlib.contextmanager
    def running(self, seconds: float | None) -> Iterator[None]:
        """A client works inside, for so many seconds at most; what the server itself does takes as long as it takes."""
        self._seconds = seconds or 0.0
        self._end = float("inf") if seconds is None else time.perf_counter() + seconds
        try:
            yield
        finally:
            self._end = float("inf")

    def check(self) -> None:
        """Ends a client's work that takes too long.

        Raises:
            TimeoutError: If it does.
        """
        if self._end != float("inf") and time.perf_counter() > self._end:
            raise TimeoutError(f"not done after client_timeout={self._seconds:g} seconds")
