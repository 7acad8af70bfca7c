"""`ResultCache`: reuse of an earlier answer, while the scene stands still and it is not too old."""

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from lkd.checks import expect
from lkd.edge.reuse.change import Grid, change, grid, watched

Answer = TypeVar("Answer")
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class KeptAnswer(Generic[Answer]):
    """A kept answer, with the picture that it belongs to.

    Attributes:
        answer: The answer.
        time: Time of the picture, in seconds.
        shape: Shape of the picture.
        cells: Grid of the picture.
    """

    answer: Answer
    time: float
    shape: tuple[int, ...]
    cells: Grid


@dataclass(frozen=True)
class Look(Generic[Answer]):
    """Comparison of a picture with the one whose answer is kept.

    Attributes:
        key: Key of the picture.
        time: Its time in seconds.
        shape: Shape of the picture.
        cells: Its grid.
        hit: The kept answer, if it may be reused; None if the network has to run.
        distance: Largest change of a watched cell since the kept picture, or the common change of all cells,
            if that is larger, in levels of 255 of a color; None without a kept picture of this size.
        mean: Mean change of the watched cells.
        age: Seconds since the kept picture.
    """

    key: Hashable
    time: float
    shape: tuple[int, ...]
    cells: Grid
    hit: KeptAnswer[Answer] | None = None
    distance: float | None = None
    mean: float | None = None
    age: float | None = None


class ResultCache(Generic[Answer]):
    """The last computed answer of each camera, slot or tile.

    A picture is compared with the one that was *computed*, not with the one before it, so that a slow drift
    adds up and is noticed. The largest change counts, not the mean, since one car that drives through a still
    scene changes few cells. The common change of all cells, as under a cloud, counts once and by itself. Each
    key is a scene of its own: `"gate"`, `("gate", "slot 7")` with the slot's crop, `("gate", (2, 0))` with a
    tile's.

    Args:
        distance: Largest change of a cell, in the color that changed most, in levels of 255, at which the
            kept answer is reused.
        ttl_s: Seconds for which an answer may be reused.
        cells: Number of cells of the grid along the longer side. A changed thing that is smaller than a cell
            changes it in part.
        regions: `(N, 4)` shares of width and height, x1, y1, x2, y2: only cells that touch one of them are
            watched, such as the slots of a car park. Default: the whole picture.
        reduce: Function that reduces the changes of the watched cells to the number compared with `distance`.
            Default: max.

    Raises:
        ValueError: For numbers out of range.

    Example:
        >>> cache = ResultCache(distance=8.0, ttl_s=60.0)
        >>> empty = np.zeros((36, 64, 3), np.uint8)
        >>> look = cache.look("gate", 0.0, empty)
        >>> look.hit is None
        True
        >>> cache.keep(look, "no car")
        >>> cache.look("gate", 5.0, empty).hit.answer, cache.look("gate", 65.0, empty).hit
        ('no car', None)
    """

    def __init__(
        self,
        distance: float = 16.0,
        ttl_s: float = 60.0,
        cells: int = 64,
        regions: npt.ArrayLike | None = None,
        reduce: Callable[[npt.NDArray[np.floating[Any]]], Any] = np.max,
    ) -> None:
        expect(distance=distance, ge=0, lt=255, why="it is in levels of 255, as 16")
        expect(ttl_s=ttl_s, gt=0, lt=math.inf, why="it is in seconds, as 60")
        expect(cells=cells, ge=8, le=1024, why="it is the number along the longer side, as 64")
        self.distance, self.ttl_s, self.cells, self.reduce = distance, ttl_s, cells, reduce
        self.regions = None if regions is None else np.asarray(regions, np.float64).reshape(-1, 4)
        if self.regions is not None and not _seen(self.regions):
            raise ValueError(
                "regions must be boxes x1, y1, x2, y2 in shares of the picture, of which at least one lies inside of it."
            )
        self._kept: dict[Hashable, KeptAnswer[Answer]] = {}

    def look(self, key: Hashable, time: float, image: Picture) -> Look[Answer]:
        """Compares a picture with the kept one.

        A picture of another size, from before the kept one, or older than `ttl_s` is never a hit.

        Args:
            key: Key of the picture: a camera, or a slot or tile of it.
            time: Its time in seconds, on any clock that goes forward.
            image: `(H, W, 3)` RGB or `(H, W)` gray, uint8.

        Raises:
            ValueError: If the time is no number, or the picture is not in bytes.
        """
        if image.dtype != np.uint8 or (image.shape[2:] or (3,)) != (3,) or image.ndim < 2 or not image.size:
            raise ValueError(
                f"image of {key!r} is {image.dtype} {image.shape}, and must be uint8 (H, W, 3) RGB or (H, W) gray: the change is "
                "counted in levels of 255."
            )
        if not math.isfinite(time):
            raise ValueError(
                f"time={time} of a picture of {key!r} must be a number of seconds: age is counted by it."
            )
        cells, kept = grid(image, self.cells), self._kept.get(key)
        if kept is None or kept.shape != image.shape:
            return Look(key, time, image.shape, cells)
        changes, shared = change(kept.cells, cells)
        if self.regions is not None:
            changes = changes[watched((changes.shape[0], changes.shape[1]), self.regions)]
        distance, age = max(float(self.reduce(changes)), shared), time - kept.time
        fits = distance <= self.distance and 0 <= age <= self.ttl_s
        return Look(
            key, time, image.shape, cells, kept if fits else None, distance, float(changes.mean()), age
        )

    def keep(self, look: Look[Answer], answer: Answer) -> None:
        """Keeps the computed answer to a picture that was compared, in place of the kept one."""
        self._kept[look.key] = KeptAnswer(answer, look.time, look.shape, look.cells)


def answered_by(cache: ResultCache[int], pictures: Iterable[tuple[Hashable, float, Picture]]) -> list[int]:
    """Returns which picture's answer each picture gets: its own number, or that of an earlier one.

    For answers that exist already, from a network on the device or a teacher at a server: what reuse would
    have saved and cost is found without running anything again.

    Args:
        cache: An empty one.
        pictures: Key, time in seconds and picture, `(H, W, 3)` uint8, in order of time.

    Example:
        >>> still, moved = np.zeros((36, 64, 3), np.uint8), np.zeros((36, 64, 3), np.uint8)
        >>> moved[:9, :9] = 255
        >>> answered_by(ResultCache(), [("gate", 0, still), ("gate", 1, still), ("gate", 2, moved), ("gate", 3, moved)])
        [0, 0, 2, 2]
    """
    given = []
    for number, (key, time, image) in enumerate(pictures):
        look = cache.look(key, time, image)
        if look.hit is None:
            cache.keep(look, number)
        given.append(number if look.hit is None else look.hit.answer)
    return given


def _seen(regions: npt.NDArray[np.floating[Any]]) -> bool:
    """Returns whether any region has a part in the picture."""
    left, top, right, bottom = regions.clip(0, 1).T
    return bool(np.isfinite(regions).all() and ((right > left) & (bottom > top)).any())
