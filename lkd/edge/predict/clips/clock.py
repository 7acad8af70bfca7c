"""Times of a clip's frames, from timestamps that may be missing or jump back."""

from collections.abc import Callable


class ClipClock:
    """Seconds since the start of a clip.

    Where timestamps jump back, as in files joined from several recordings, the times go on from there.

    Args:
        name: Name of the clip, for the message.
        rate: Frames per second, for clips without timestamps; None if it is not known.
        say: Function that is told of a jump.

    Example:
        >>> clock = ClipClock("a.mp4", 2.0, print)
        >>> clock(0, 7.0), clock(1, 7.5), clock(2, 0.0), clock(3, 0.25)
        the clock of a.mp4 jumps back at frame 2, by 7.50 s; its times go on from 1.00 s.
        (0.0, 0.5, 1.0, 1.25)
    """

    def __init__(self, name: str, rate: float | None, say: Callable[[str], None]) -> None:
        self.name, self.rate, self.say = name, rate, say
        self._start: float | None = None
        self._last = 0.0

    def __call__(self, number: int, stamp: float | None) -> float | None:
        """Returns the time of frame `number` with the timestamp `stamp` in seconds.

        It is None if neither tells it.
        """
        if stamp is None:
            return number / self.rate if self.rate else None
        if self._start is None:
            self._start = stamp
        if (behind := self._last - (stamp - self._start)) > 0:
            now = self._last + (1 / self.rate if self.rate else 0.0)
            self.say(
                f"the clock of {self.name} jumps back at frame {number}, by {behind:.2f} s; its times go on from {now:.2f} s."
            )
            self._start = stamp - now
        self._last = stamp - self._start
        return self._last
