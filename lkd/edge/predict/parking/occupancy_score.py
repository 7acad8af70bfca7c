"""Quality of an occupancy: right slots, and flips per hour."""

from lkd.edge.predict.frame import Frame
from lkd.edge.predict.parking.occupancy import Change, Occupancy
from lkd.edge.predict.parking.truth import Truth


class OccupancyScore:
    """Figures of an occupancy over many frames, with the truth or without.

    Args:
        occupancy: The occupancy that is measured.
        truth: The known states. Default: none, and only flips are counted.

    Example:
        >>> score = OccupancyScore(occupancy, truth)  # doctest: +SKIP
        >>> score.add(frame, occupancy.update(frame, found))  # doctest: +SKIP
        >>> score.figures()["balanced_accuracy"]  # doctest: +SKIP
        0.97
    """

    def __init__(self, occupancy: Occupancy, truth: Truth | None = None) -> None:
        self.occupancy, self.truth = occupancy, truth
        self._counts = {(is_busy, said): 0 for is_busy in (False, True) for said in (False, True)}
        self._flips = self._wrong = self._true = 0
        self._seconds = 0.0
        self._last: float | None = None
        self._known: dict[str, bool] = {}

    def add(self, frame: Frame, changes: list[Change]) -> None:
        """Counts a frame and its changes, after the occupancy was updated by it."""
        known = self.truth.of(frame) if self.truth else {}
        for slot, busy in zip(self.occupancy.slots.names, self.occupancy.busy.tolist(), strict=True):
            if slot in known:
                self._counts[known[slot], busy] += 1
        self._flips += len(changes)
        self._wrong += sum(known.get(change.slot, change.busy) is not change.busy for change in changes)
        self._true += sum(self._known.get(slot, busy) is not busy for slot, busy in known.items())
        self._known |= known
        if frame.time is not None and self._last is not None:
            self._seconds += max(frame.time - self._last, 0.0)
        self._last = frame.time

    def figures(self) -> dict[str, float | int | None]:
        """Returns the figures so far; None where there is nothing to compute them from.

        - `compared`: number of compared states, each of a slot in a frame.
        - `accuracy`: share of right ones, and `balanced_accuracy`: mean of the shares for busy and for free
          ones.
        - `busy_called_free` and `free_called_busy`: numbers of wrong ones.
        - `hours`: time between the frames, and `flips`, `flips_per_hour`: changes of all slots together.
        - `wrong_flips`: changes to a wrong state, and `true_flips`: changes in the truth.
        """
        counts, hours = self._counts, self._seconds / 3600
        busy, free = counts[True, True] + counts[True, False], counts[False, True] + counts[False, False]
        shares = [counts[True, True] / busy if busy else None, counts[False, False] / free if free else None]
        there = [share for share in shares if share is not None]
        compared = busy + free
        return {
            "compared": compared,
            "accuracy": (counts[True, True] + counts[False, False]) / compared if compared else None,
            "balanced_accuracy": sum(there) / 2 if len(there) == 2 else None,
            "busy_called_free": counts[True, False] if compared else None,
            "free_called_busy": counts[False, True] if compared else None,
            "hours": hours or None,
            "flips": self._flips,
            "flips_per_hour": self._flips / hours if hours else None,
            "wrong_flips": self._wrong if compared else None,
            "true_flips": self._true if compared else None,
        }
