"""Decoded frames in memory, up to a limit in bytes."""

from pathlib import Path

from torch import Tensor

from lkd.checks import expect
from lkd.datamodules.io.pictures import read_image


class FrameCache:
    """Reader of pictures that keeps what it has decoded, as long as there is room.

    The first pictures that fit stay, and none makes room for another: an epoch reads each picture once, so that
    the least recently read one is the next that is needed. A picture is read-only for all who are given it. Every
    process has a cache of its own: a copy for another process, or by `copy.deepcopy`, begins empty.

    Args:
        megabytes: Limit of what is kept, in units of 10^6 bytes of pixels, three a pixel; 0 keeps nothing.

    Raises:
        ValueError: for a limit that is negative or not finite.

    Example:
        >>> FrameCache(megabytes=100).held
        0
    """

    __slots__ = (
        "_found",
        "held",
        "limit",
    )  # and no __dict__: a crew that looks for changes does not look in here

    def __init__(self, megabytes: float = 0.0) -> None:
        expect(cache_mb=megabytes, ge=0, lt=float("inf"))
        self.limit = int(megabytes * 1e6)
        self.held = 0
        self._found: dict[Path, Tensor] = {}

    def read(self, path: Path) -> Tensor:
        """Returns a picture as `read_image` does, (3, H, W) uint8."""
        if (known := self._found.get(path)) is not None:
            return known
        image = read_image(path)
        if self.held + image.numel() <= self.limit:
            self._found[path] = image
            self.held += image.numel()
        return image

    def __reduce__(self) -> tuple[type["FrameCache"], tuple[float]]:
        """Copies the limit alone."""
        return FrameCache, (self.limit / 1e6,)
