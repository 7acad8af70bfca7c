"""Audits: how often a reused answer equals what the network would say, and when reuse has to stop."""

from collections import deque
from collections.abc import Mapping

import numpy as np

from lkd.checks import expect
from lkd.edge.matching import matched
from lkd.edge.nms import Array

FEWEST, LATEST = 5, 20
"""Fewest audits of a camera before it may be stopped, and number of the latest that are judged."""

Counts = tuple[float, int]
"""How much is the same, and of how much."""


def agreement(reused: Mapping[str, Array], fresh: Mapping[str, Array]) -> Counts:
    """Counts what two answers have in common; the ratio is F1 for boxes, or equality of a class.

    Example:
        >>> agreement({"probabilities": np.array([0.9, 0.1])}, {"probabilities": np.array([0.6, 0.4])})
        (1.0, 1)
    """
    if "probabilities" in fresh:
        return float(reused["probabilities"].argmax() == fresh["probabilities"].argmax()), 1
    return 2.0 * matched(reused, fresh), len(reused["boxes"]) + len(fresh["boxes"])


def ratio(same: float, of: float) -> float:
    """Returns the share, or 1 where nothing could differ, as in an empty scene.

    Example:
        >>> ratio(3, 4), ratio(0, 0)
        (0.75, 1.0)
    """
    return same / of if of else 1.0


class Audits:
    """Audits of hits, which are drawn and computed all the same; reuse stops for cameras with wrong answers.

    Args:
        share: Share of the hits, in [0, 1].
        agree: Lowest agreement over the latest `LATEST` audits of a camera, once there are `FEWEST`.
        seed: Seed of the draw.

    Attributes:
        stopped: The agreement of each camera that was stopped.

    Example:
        >>> audits = Audits(share=1.0, agree=0.9)
        >>> audits.drawn(), [audits.add("gate", (0.0, 1)) for _ in range(5)], audits.stopped
        (True, [False, False, False, False, True], {'gate': 0.0})
    """

    def __init__(self, share: float = 0.1, agree: float = 0.9, seed: int = 0) -> None:
        expect(audit=share, ge=0, le=1, why="it is a share of the reused answers")
        self.share, self.agree = share, agree
        self._draw = np.random.default_rng(seed)
        self._latest: dict[str, deque[Counts]] = {}
        self.stopped: dict[str, float] = {}

    def drawn(self) -> bool:
        """Draws whether the next hit is audited."""
        return bool(self._draw.random() < self.share)

    def add(self, camera: str, counts: Counts) -> bool:
        """Adds an audit's result; returns whether reuse has to stop for the camera now."""
        latest = self._latest.setdefault(camera, deque(maxlen=LATEST))
        latest.append(counts)
        agreed = ratio(*np.sum(latest, 0))
        if len(latest) < FEWEST or agreed >= self.agree:
            return False
        self.stopped[camera] = float(agreed)
        return True
