"""`Scale`: a teacher's scores on the scale of a student, so that boxes of both can be ranked together."""

from collections.abc import Sequence

import numpy as np

from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answer


class Scale:
    """Rising map of scores: the teacher's k-th highest becomes the student's k-th highest on equal frames.

    Both then have as many boxes above any score, as a ranking over frames of both needs. The order within the
    teacher's own boxes stays.

    Args:
        theirs: The teacher's scores, of all frames.
        ours: The student's scores.

    Example:
        >>> scale = Scale(np.array([0.9, 0.5]), np.array([0.6, 0.4]))
        >>> scale(np.array([0.9, 0.7, 0.5])).round(3).tolist()
        [0.6, 0.5, 0.4]
    """

    def __init__(self, theirs: Array, ours: Array) -> None:
        count = min(len(theirs), len(ours))
        pairs = [np.sort(each)[::-1][:count][::-1].astype(np.float64) for each in (theirs, ours)]
        # the ends are fixed, and each step rises a little: equal scores would lose the order
        self._theirs = np.concatenate([[0.0], pairs[0], [1.0]])
        self._ours = np.concatenate([[0.0], pairs[1], [1.0]])

    def __call__(self, scores: Array) -> Array:
        """Returns the scores `(D,)` on the student's scale."""
        moved = np.interp(scores, self._theirs, self._ours)
        return (moved + 1e-6 * scores).astype(scores.dtype)


def matched_scale(theirs: Sequence[Answer], ours: Sequence[Answer]) -> Scale:
    """Makes a scale from answers to the same frames: the teacher's, each box once, and the student's."""
    return Scale(*(np.concatenate([one["scores"] for one in side]) for side in (theirs, ours)))
