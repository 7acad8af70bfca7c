"""Times of the parts between a frame and its results."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

KEPT = 100_000
"""Number of latest frames whose times are kept, since a stream may go on for weeks."""


class FrameTimes:
    """Times of each part, frame by frame.

    Args:
        parts: Names of the parts, in order.

    Example:
        >>> clock = FrameTimes(["decode", "write"])
        >>> with clock("decode"):
        ...     pass
        >>> clock.frame_done()
        >>> [row["part"] for row in clock.rows()]
        ['decode', 'write', 'all']
    """

    def __init__(self, parts: list[str]) -> None:
        self.parts = parts
        self._now, self._busy = dict.fromkeys(parts, 0.0), dict.fromkeys(parts, 0.0)
        self._frames: deque[tuple[float, ...]] = deque(maxlen=KEPT)
        self.begin = time.perf_counter()
        self.frames = 0

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Times the code inside the block."""
        start, busy = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self._now[part] += time.perf_counter() - start
            self._busy[part] += time.process_time() - busy

    def frame_done(self) -> None:
        """Ends the times of a frame."""
        self._frames.append((*self._now.values(), *self._busy.values()))
        self.frames += 1
        self._now, self._busy = dict.fromkeys(self.parts, 0.0), dict.fromkeys(self.parts, 0.0)

    @property
    def rate(self) -> float:
        """Frames per second since the beginning."""
        return self.frames / max(time.perf_counter() - self.begin, 1e-9)

    def rows(self) -> list[dict[str, float | str]]:
        """Returns the median and 95th percentile of each part, and of all together, in ms.

        The list is empty without a frame.

        `cpu_ms` is the median of this process's CPU time, which other work on the machine hardly changes.
        """
        if not self._frames:
            return []
        taken = 1000 * np.array(self._frames).reshape(len(self._frames), 2, len(self.parts))
        taken = np.concatenate([taken, taken.sum(2, keepdims=True)], 2)
        p50, p95 = np.percentile(taken, [50, 95], axis=0).round(3)
        return [
            {"part": name, "p50_ms": float(p50[0, i]), "p95_ms": float(p95[0, i]), "cpu_ms": float(p50[1, i])}
            for i, name in enumerate([*self.parts, "all"])
        ]
