"""How long a client may work."""

import contextlib
import time
from collections.abc import Iterator

from lkd.checks import expect


class Clock:
    """Runs while a client works, and is looked at between its batches.

    Args:
        seconds: How long a client may take for one request. None: for ever.

    Raises:
        ValueError: If that is not above 0.

    Example:
        >>> clock = Clock(3600.0)
        >>> with clock.running():
        ...     clock.check()
    """

    def __init__(self, seconds: float | None = None) -> None:
        expect(client_timeout=seconds, gt=0, none="no limit", why="it is in seconds")
        self._seconds, self._end = seconds, float("inf")

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """A client works inside; what the server itself does takes as long as it takes."""
        self._end = float("inf") if self._seconds is None else time.perf_counter() + self._seconds
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
