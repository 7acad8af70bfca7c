"""`Occupancy`: which slots are busy, from the boxes of successive frames, with hysteresis."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lkd.checks import expect
from lkd.edge.predict.frame import Found, Frame
from lkd.edge.predict.parking.fill import distinct, fill
from lkd.edge.predict.parking.overlap import Floats
from lkd.edge.predict.parking.slots import Slots
from lkd.edge.predict.parking.vehicles import vehicles

UNSURE = 0.05
"""Score so low that boxes below it were probably left in by mistake."""


class Change(NamedTuple):
    """A slot that became busy or free.

    Attributes:
        frame: Number of the frame in which the change has lasted long enough.
        time: Seconds of that frame, as `Frame.time`.
        slot: Name of the slot.
        busy: Its new state.
    """

    frame: int
    time: float | None
    slot: str
    busy: bool


class Occupancy:
    """States of the slots of one camera.

    A free slot becomes busy when its box covers at least `up` of it, and a busy one free when that is less
    than `down` (see `lkd.edge.predict.parking.fill`); in between it keeps its state. The state changes once
    this has lasted `dwell` seconds and `frames` frames in a row. If frames have no time, or are further apart
    than `dwell`, as pictures that a camera takes now and then, `frames` alone counts. The first frame gives
    each slot its first state.

    Args:
        slots: The map, scaled to the frames' size.
        names: Names of the detector's classes, in order. Default: not known, and every box counts.
        classes: Names of the classes whose boxes count. Default: the vehicles among `names`, or a detector's
            only class.
        up: Share of a free slot from which it counts as busy. Default: .35.
        down: Share of a busy slot below which it counts as free. Default: .2.
        dwell: Seconds that a change has to last. Default: 2.
        frames: Frames in a row that a change has to last. Default: 1.

    Attributes:
        busy: `(S,)` bool, as of the last frame.
        shares: `(S,)` float64: the share of each slot that its box covered in the last frame.

    Raises:
        ValueError: For numbers that contradict each other, or classes that the detector does not have.

    Example:
        >>> slots = Slots(("A1",), np.array([[[2, 2], [6, 2], [6, 8], [2, 8]]], float), (10, 10), None, "map.json")
        >>> occupancy, picture = Occupancy(slots, dwell=0.5), np.zeros((10, 10, 3), np.uint8)
        >>> none, car = np.zeros((0, 4)), np.array([[2.0, 2, 6, 8]])
        >>> for number, boxes in enumerate([none, car, car, car]):
        ...     labels = np.zeros(len(boxes), np.int64)
        ...     found = {"boxes": boxes, "scores": labels + 1.0, "labels": labels}
        ...     print(occupancy.update(Frame("a.mp4", number, number / 4, picture), found), occupancy.free)
        [] 1
        [] 1
        [] 1
        [Change(frame=3, time=0.75, slot='A1', busy=True)] 0
    """

    def __init__(
        self,
        slots: Slots,
        names: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        up: float = 0.35,
        down: float = 0.2,
        dwell: float = 2.0,
        frames: int = 1,
    ) -> None:
        if not 0 < down <= up <= 1:
            raise ValueError(f"up={up} and down={down} must be shares with 0 < down <= up <= 1.")
        expect(dwell=dwell, ge=0, lt=np.inf, why="it is in seconds")
        expect(frames=frames, ge=1)
        self.slots, self.up, self.down, self.dwell, self.frames = slots, up, down, dwell, frames
        self._counted = vehicles(names, classes)
        self.busy: npt.NDArray[np.bool_] = np.zeros(len(slots.names), np.bool_)
        self.shares: Floats = np.zeros(len(slots.names))
        self._since = np.full(len(slots.names), np.nan)  # when a possible change was first seen
        self._lasted = np.zeros(len(slots.names), np.int64)  # number of frames with it
        self._last: Frame | None = None
        self._warned = False

    @property
    def free(self) -> int:
        """Number of free slots."""
        return int((~self.busy).sum())

    def update(self, frame: Frame, found: Found) -> list[Change]:
        """Updates the slots by the next frame, and returns those that changed.

        Args:
            frame: The frame; only its size, source and time are used.
            found: A detector's confident findings, in pixels of the frame: all boxes count, whatever their
                score.

        Raises:
            ValueError: If the map is not for this frame's camera or size.
        """
        height, width = frame.image.shape[:2]
        self.slots.check(frame.source, (width, height))
        seen, self.shares = self._look(found)
        last, self._last = self._last, frame
        if last is None:
            self.busy = seen
            return []
        changed = self._held(seen, last.time, frame.time)
        self.busy = self.busy ^ changed
        return [
            Change(frame.number, frame.time, self.slots.names[slot], bool(self.busy[slot]))
            for slot in np.flatnonzero(changed)
        ]

    def seen(self, found: Found) -> npt.NDArray[np.bool_]:
        """Returns which slots `(S,)` a frame with these boxes shows as busy, without changing the state."""
        return self._look(found)[0]

    def _look(self, found: Found) -> tuple[npt.NDArray[np.bool_], Floats]:
        shares = fill(self.slots, self._cars(found))
        return shares >= np.where(self.busy, self.down, self.up), shares

    def _cars(self, found: Found) -> Floats:
        """Returns boxes `(N, 4)` of the classes that count.

        A box found for two classes is one car and fills one slot.
        """
        boxes, scores = (
            np.asarray(found["boxes"], np.float64).reshape(-1, 4),
            np.asarray(found["scores"], np.float64),
        )
        if self._counted is not None:
            counted = np.isin(found["labels"], self._counted)
            boxes, scores = boxes[counted], scores[counted]
        if len(scores) and scores.min() < UNSURE and not self._warned:
            self._warned = True
            warnings.warn(
                f"a box of a score of {scores.min():.3f} fills a slot as any other does: leave unsure boxes out first, such as "
                "those below .25.",
                stacklevel=3,
            )
        return distinct(boxes, scores)

    def _held(
        self, seen: npt.NDArray[np.bool_], last: float | None, now: float | None
    ) -> npt.NDArray[np.bool_]:
        """Returns which slots have differed from their state for long enough."""
        differs = seen != self.busy
        if last is None or now is None or now < last:  # no times, or another clip
            last = now
            self._since[:] = np.nan
        self._lasted = np.where(differs, self._lasted + 1, 0)
        self._since[~differs] = np.nan
        changed = differs & (self._lasted >= self.frames)
        if now is not None and last is not None:
            # two frames further apart than `dwell` are taken to show a change that has lasted that long
            begin = last if now - last >= self.dwell else now
            self._since = np.where(differs & np.isnan(self._since), begin, self._since)
            changed &= now - self._since >= self.dwell
        self._since[changed], self._lasted[changed] = np.nan, 0
        return changed
