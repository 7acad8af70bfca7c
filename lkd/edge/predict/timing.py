"""How long each part of the way from a frame to its results takes."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

KEPT = 100_000
"""Frames whose times are kept, the latest: a stream may go on for weeks."""


class Clock:
    """Times by part, frame by frame.

    Args:
        parts: Their names, in order.

    Example:
        >>> clock = Clock(["decode", "write"])
        >>> with clock("decode"):
        ...     pass
        >>> clock.frame_done()
        >>> [row["part"] for row in clock.rows()]
        ['decode', 'write', 'all']
    """

    def __init__(self, parts: list[str]) -> None:
        self.parts = parts
        self._now = dict.fromkeys(parts, 0.0)
        self._frames: deque[tuple[float, ...]] = deque(maxlen=KEPT)
        self.begin = time.perf_counter()
        self.frames = 0

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Times what runs inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._now[part] += time.perf_counter() - start

    def frame_done(self) -> None:
        """Closes the books of a frame."""
        self._frames.append(tuple(self._now.values()))
        self.frames += 1
        for part in self._now:
            self._now[part] = 0.0

    def frame_lost(self) -> None:
        """Forgets what was timed since the last frame."""
        self._now = dict.fromkeys(self.parts, 0.0)

    @property
    def rate(self) -> float:
        """Frames a second since the beginning."""
        return self.frames / max(time.perf_counter() - self.begin, 1e-9)

    def rows(self) -> list[dict[str, float | str]]:
        """Median and 95th percentile of each part, and of all together, in milliseconds; none without a frame."""
        if not self._frames:
            return []
        taken = 1000 * np.array(self._frames)
        taken = np.concatenate([taken, taken.sum(1, keepdims=True)], 1)
        p50, p95 = np.percentile(taken, [50, 95], axis=0)
        names = [*self.parts, "all"]
        return [
            {"part": name, "p50_ms": round(float(a), 3), "p95_ms": round(float(b), 3)}
            for name, a, b in zip(names, p50, p95, strict=True)
        ]
