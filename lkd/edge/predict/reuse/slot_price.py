"""The effect of reused boxes on the slots of a car park: against new boxes, and both against the truth."""

from typing import Any

from lkd.edge.predict.frame import Found, Frame
from lkd.edge.predict.parking.occupancy import Occupancy
from lkd.edge.predict.parking.truth import Truth
from lkd.edge.predict.reuse.audits import Counts


class SlotPrice:
    """Counts of audited frames.

    Slots are compared as each frame by itself shows them, without waiting for a change to last.

    Args:
        occupancy: Occupancy as of the frame before.
        truth: Known states, or None.
    """

    def __init__(self, occupancy: Occupancy, truth: Truth | None = None) -> None:
        self.occupancy, self.truth = occupancy, truth
        self._alike = self._all = 0
        self._compared = self._right_reused = self._right_fresh = 0

    def add(self, frame: Frame, reused: Found, fresh: Found) -> Counts:
        """Counts an audited frame; returns how many of its slots agree, and how many there are."""
        known = self.truth.of(frame) if self.truth else {}
        pairs = list(
            zip(
                self.occupancy.slots.names,
                self.occupancy.seen(reused),
                self.occupancy.seen(fresh),
                strict=True,
            )
        )
        alike = sum(bool(old == new) for _, old, new in pairs)
        self._alike += alike
        self._all += len(pairs)
        for slot, old, new in pairs:
            if slot in known:
                self._compared += 1
                self._right_reused += bool(old) is known[slot]
                self._right_fresh += bool(new) is known[slot]
        return float(alike), len(pairs)

    def figures(self) -> dict[str, Any]:
        """Returns shares of the audited frames' slots: equal ones, and right ones by reused and new boxes.

        Unknown shares are None.
        """
        compared = self._compared
        return {
            "slots_alike": self._alike / self._all if self._all else None,
            "states_compared": compared,
            "accuracy_reused": self._right_reused / compared if compared else None,
            "accuracy_fresh": self._right_fresh / compared if compared else None,
        }
