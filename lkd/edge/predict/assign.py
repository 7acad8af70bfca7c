"""Which box fills which slot: one box fills one slot, though in an oblique view it covers parts of others."""

import numpy as np

from lkd.edge.predict.overlap import Floats


def greedily(scores: Floats) -> Floats:
    """Scores `(S,)` of the boxes that slots are given, best pair first; 0 of a slot without one.

    Args:
        scores: `(N, S)` of each pair of box and slot, 0 where they have nothing to do with each other.

    Example:
        >>> greedily(np.array([[0.9, 0.6], [0.0, 0.2]])).tolist()
        [0.9, 0.2]
    """
    given = np.zeros(scores.shape[1])
    left = scores.copy()
    while left.size and (best := left.max()) > 0:
        box, slot = np.unravel_index(left.argmax(), left.shape)
        given[slot] = best
        left[box], left[:, slot] = 0, 0
    return given
