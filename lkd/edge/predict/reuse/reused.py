"""`Reused`: a predictor that asks its student only if the picture has changed."""

import time
import warnings
from collections import Counter, deque
from typing import Any, Literal, NamedTuple

import numpy as np

from lkd.edge.predict.frame import Found, Frame
from lkd.edge.predict.predictor import Predictor
from lkd.edge.predict.reuse.audits import LATEST, Audits, Counts, agreement, ratio
from lkd.edge.predict.reuse.moments import FrameMoments
from lkd.edge.predict.reuse.slot_price import SlotPrice
from lkd.edge.predict.timing import KEPT, FrameTimes
from lkd.edge.reuse import Look, ResultCache

LOOK = "look"
"""The part of a frame's time that goes into the comparison."""


class ReuseRow(NamedTuple):
    """How a frame was answered.

    Attributes:
        camera: Camera of the frame.
        how: "computed"; "reused"; "audited": a hit that was computed all the same; "stopped": computed
            without a comparison.
        look: Comparison of the frame; None if there was none.
        agreed: Agreement of an audited frame, in [0, 1]: of the slots if only they are watched, else of boxes
            or class.
    """

    camera: str
    how: Literal["computed", "reused", "audited", "stopped"]
    look: Look[Found] | None
    agreed: float | None


class Reused:
    """Predictor that answers with an earlier answer while the scene stands still.

    The result of an audit is given out. It replaces the kept answer only where the two do not agree. So with
    all hits audited, the report says what reuse would have cost, and no answer is wrong.

    Args:
        predictor: Predictor that is asked if the picture has changed.
        cache: Cache of its answers.
        moments: Camera and time of a frame.
        audits: Draws audits and stops cameras.
        price: Effect on the slots, where there are any.
        by_slots: Whether agreement is that of the slots and not that of the boxes.

    Attributes:
        last: How the last frame was answered.
    """

    def __init__(
        self,
        predictor: Predictor,
        cache: ResultCache[Found],
        moments: FrameMoments,
        audits: Audits,
        price: SlotPrice | None = None,
        by_slots: bool = False,
    ) -> None:
        self.predictor, self.cache, self.moments, self.audits = predictor, cache, moments, audits
        self.price, self.by_slots = price, by_slots
        self.detects, self.classes = predictor.detects, predictor.classes
        self.score_threshold = predictor.score_threshold
        self.parts = [predictor.parts[0], LOOK, *predictor.parts[1:]]
        self.last: ReuseRow | None = None
        self.stopped: list[str] = []
        self._count: Counter[str] = Counter()
        self._agreed: Counts = (0.0, 0)
        self._oldest: float | None = None
        self._cameras: set[str] = set()
        self._too_old = 0
        self._distances: deque[float] = deque(maxlen=KEPT)
        self._cpu = {"computed": 0.0, LOOK: 0.0}

    def __call__(self, frame: Frame, clock: FrameTimes) -> Found:
        """Returns the findings in a frame, new or reused."""
        camera, seconds = self.moments(frame)
        self._cameras.add(camera)
        if camera in self.audits.stopped:
            return self._done(ReuseRow(camera, "stopped", None, None), self._compute(frame, clock))
        begin = time.process_time()
        with clock(LOOK):
            look = self.cache.look(camera, seconds, frame.image)
        self._cpu[LOOK] += time.process_time() - begin
        if look.distance is not None:
            self._distances.append(look.distance)
        if look.hit is None:
            self._too_old += look.distance is not None and look.distance <= self.cache.distance
            found = self._compute(frame, clock)
            self.cache.keep(look, found)
            return self._done(ReuseRow(camera, "computed", look, None), found)
        self._oldest = max(look.age or 0.0, self._oldest or 0.0)
        if not self.audits.drawn():
            return self._done(ReuseRow(camera, "reused", look, None), look.hit.answer)
        found = self._compute(frame, clock)
        agreed = self._audit(frame, camera, look.hit.answer, found)
        if agreed < self.audits.agree:
            self.cache.keep(look, found)
        return self._done(ReuseRow(camera, "audited", look, agreed), found)

    def _compute(self, frame: Frame, clock: FrameTimes) -> Found:
        begin = time.process_time()
        found = self.predictor(frame, clock)
        self._cpu["computed"] += time.process_time() - begin
        return found

    def _audit(self, frame: Frame, camera: str, reused: Found, fresh: Found) -> float:
        """Returns the agreement of the two; stops the camera if it was too low for too long."""
        same, of = agreement(reused, fresh)
        self._agreed = self._agreed[0] + same, self._agreed[1] + of
        slots = self.price.add(frame, reused, fresh) if self.price else None
        counts = slots if self.by_slots and slots else (same, of)
        if self.audits.add(camera, counts):
            self.stopped.append(
                f"reuse stopped at frame {frame.number} of {frame.source}: of the latest audits of camera {camera}, up to {LATEST}, "
                f"{self.audits.stopped[camera]:.2f} agreed, less than agree={self.audits.agree:g}; the scene moves more than "
                f"distance={self.cache.distance:g} tells, and all its further frames are computed."
            )
            warnings.warn(self.stopped[-1], stacklevel=4)
        return ratio(*counts)

    def _done(self, row: ReuseRow, found: Found) -> Found:
        self.last = row
        self._count[row.how] += 1
        return found

    def figures(self) -> dict[str, Any]:
        """Returns what was saved, and what it cost.

        - `frames`, and of these `reused`, `audited`, `computed` and `stopped`; `share_reused`;
          `longest_age_s` of a hit; `too_old`: computed frames that looked like the kept one, but too late;
          `cameras`: their number.
        - `computed_ms` and `look_ms`: mean CPU time of a computed frame (without decoding and writing) and of
          a comparison; `saved_s`: the time of the reused frames, if computed, minus all comparisons. For a
          live stream, all three include the time of its decoder.
        - `distances`: 5th, 50th and 95th percentile of the frames' distances to the kept one.
        - `agreement` of audited answers with new ones: F1 of the boxes at IoU .5, or share of equal classes;
          None without an audit. With slots, also the figures of `SlotPrice`.
        - `stopped_because`: a sentence for each camera that was stopped.
        """
        count, frames = self._count, sum(self._count.values())
        computed, looks = frames - count["reused"], frames - count["stopped"]
        each = self._cpu["computed"] / computed if computed else 0.0
        return {
            "frames": frames,
            **{how: count[how] for how in ("reused", "audited", "computed", "stopped")},
            "share_reused": count["reused"] / frames if frames else 0.0,
            "longest_age_s": self._oldest,
            "too_old": self._too_old,
            "cameras": len(self._cameras),
            "computed_ms": 1000 * each,
            "look_ms": 1000 * self._cpu[LOOK] / looks if looks else 0.0,
            "saved_s": count["reused"] * each - self._cpu[LOOK],
            "distance": self.cache.distance,
            "ttl_s": self.cache.ttl_s,
            "distances": np.percentile(self._distances, [5, 50, 95]).round(2).tolist()
            if self._distances
            else None,
            "agreement": ratio(*self._agreed) if count["audited"] else None,
            **(self.price.figures() if self.price else {}),
            "stopped_because": self.stopped,
        }
