"""Building of the reuse of answers: cache, times, audits."""

import numpy as np

from lkd.edge.predict.frame import Found
from lkd.edge.predict.parking.occupancy import Occupancy
from lkd.edge.predict.parking.truth import Truth
from lkd.edge.predict.predictor import Predictor
from lkd.edge.predict.reuse.asked import Reuse
from lkd.edge.predict.reuse.audits import Audits
from lkd.edge.predict.reuse.moments import FrameMoments
from lkd.edge.predict.reuse.reused import Reused
from lkd.edge.predict.reuse.slot_price import SlotPrice
from lkd.edge.reuse import ResultCache

AUDIT = 0.1
"""Default share of the hits that are audited, so that a moving scene is noticed."""


def reusing(
    asked: Reuse,
    audit: float | None,
    predictor: Predictor,
    moments: FrameMoments,
    occupancy: Occupancy | None = None,
    truth: Truth | None = None,
) -> Reused:
    """Makes a predictor that reuses answers.

    Args:
        asked: Settings of the reuse.
        audit: Share of the hits that is computed all the same; None for .1.
        predictor: Predictor that computes new answers.
        moments: Camera and time of the frames.
        occupancy: Occupancy of slots, or None.
        truth: Known states of the slots, or None.

    Raises:
        ValueError: For invalid numbers, missing slots, or a truth by frame numbers that have changed.
    """
    if truth is not None and truth.by == "frame" and moments.reordered:
        raise ValueError(
            f"reuse: pictures are taken in the order of camera and time, in which they have other numbers than those of "
            f"truth={truth.path!r}: give a table with the column picture in place of frame."
        )
    by_slots = asked.where == "slots"
    if by_slots and occupancy is None:
        raise ValueError("reuse: where=slots watches slots: give their map, too, as --slots map.json.")
    regions = None
    if by_slots and occupancy is not None:
        slots = occupancy.slots
        regions = np.concatenate([slots.polygons.min(1), slots.polygons.max(1)], 1) / np.tile(slots.size, 2)
    cache = ResultCache[Found](asked.distance, asked.ttl_s, asked.cells, regions)
    audits = Audits(AUDIT if audit is None else audit, asked.agree, asked.seed)
    price = SlotPrice(occupancy, truth) if occupancy else None
    return Reused(predictor, cache, moments, audits, price, by_slots)
