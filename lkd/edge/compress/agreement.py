"""Agreement of a compressed student's answers with those of its dense parent."""

from collections.abc import Mapping, Sequence
from functools import partial

from lkd.edge.matching import matched
from lkd.edge.nms import Array, suppress

CONFIDENT = 0.25
"""Boxes with a score above this are compared."""


class Agreement:
    """Share of answers of a network that a file gives, too. It is a `Comparison` that refuses nothing.

    For logits it is the share of samples with the same best class. For boxes it is the F1 score of the file's
    boxes against the network's: of the same class, with scores above .25 and an intersection over union of .5
    or more.

    Args:
        iou_threshold: IoU threshold of the suppression that follows raw boxes.
        max_detections: Most boxes that the suppression keeps.
        multi_label: Whether each class of a box is a candidate of its own in the suppression.

    Example:
        >>> import numpy as np
        >>> agreement = Agreement()
        >>> agreement.compare({"logits": np.array([[2.0, 1.0], [0.0, 1.0]])}, {"logits": np.array([[1.1, 1.0], [3.0, 1.0]])})
        >>> agreement.share
        0.5
    """

    def __init__(
        self, iou_threshold: float = 0.6, max_detections: int = 300, multi_label: bool = False
    ) -> None:
        self.suppress = partial(
            suppress,
            score_threshold=CONFIDENT,
            iou_threshold=iou_threshold,
            max_detections=max_detections,
            multi_label=multi_label,
        )
        self.same, self.all = 0.0, 0

    @property
    def share(self) -> float | None:
        """Share of equal answers in [0, 1]; None if there was nothing to compare."""
        return self.same / self.all if self.all else None

    def compare(self, wanted: Mapping[str, Array], got: Mapping[str, Array]) -> None:
        """Compares logits, or boxes and scores before suppression."""
        if "logits" in wanted:
            self.same += float((wanted["logits"].argmax(1) == got["logits"].argmax(1)).sum())
            self.all += len(wanted["logits"])
            return
        here, there = (
            [self.suppress(*pair) for pair in zip(one["boxes"], one["scores"], strict=True)]
            for one in (wanted, got)
        )
        self.compare_detections(here, there, 0)

    def compare_detections(
        self, wanted: Sequence[Mapping[str, Array]], got: Sequence[Mapping[str, Array]], side: int
    ) -> None:
        """Compares boxes of pictures, best first."""
        for one, other in zip(wanted, got, strict=True):
            mine, theirs = _confident(one), _confident(other)
            self.all += len(mine["boxes"]) + len(theirs["boxes"])
            self.same += 2 * matched(mine, theirs)


def _confident(found: Mapping[str, Array]) -> dict[str, Array]:
    rows = found["scores"] > CONFIDENT
    return {name: found[name][rows] for name in ("boxes", "labels")}
