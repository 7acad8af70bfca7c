"""A rule when a client of a decentralized federation has learned enough from its neighbors."""

from collections.abc import Sequence

from lkd.checks import expect


class MetaStopping:
    """Stopping rule on a client's loss on its own validation set and its loss on its neighbors'.

    Molo, Vadicamo, Gennaro and Carlini, "Decentralized edge learning: A comparative study of distillation
    strategies and dissimilarity measures", Future Generation Computer Systems 176
    (10.1016/j.future.2025.108171). L is the client's loss on its own validation set, L_meta the mean of its
    losses on its neighbors'. It stops for one of these reasons:

    - `"degraded"`: L has been above its lowest value so far by more than `degradation` of it, `degraded`
      rounds in a row;
    - `"overfits"`: L has risen in a round while L_meta has not, `rising` rounds in a row;
    - `"still"`: both have changed by less than `change` of their last values, `still` rounds in a row;
    - `"most"`: it has trained `most` rounds.

    We have the conditions from a summary of the paper and could not check its text; its published code has
    none of them. Where the summary leaves it open, we read it so: the degradation is that of L, against its
    best; a rise of any size counts; an L_meta that stays equal has not risen; the changes are relative, up or
    down. Read literally, a client also stops if its L rises while L_meta falls, which is how generalizing
    looks from a specialized start: raise `rising` and `degraded` if it should not.

    Args:
        degradation: Relative rise of L above its lowest value.
        degraded: Rounds in a row with such a rise.
        rising: Rounds in a row in which L rises while L_meta does not.
        change: Relative change below which a loss counts as unchanged.
        still: Rounds in a row in which both are unchanged.
        most: Largest number of rounds of training.

    Raises:
        ValueError: For numbers out of range.

    Example:
        >>> MetaStopping().reason([1.0, 1.1, 1.2, 1.3, 1.4], [1.0, 0.9, 0.8, 0.7, 0.6])
        'overfits'
        >>> MetaStopping().reason([1.0, 0.9, 0.8, 0.7, 0.6], [1.0, 0.9, 0.8, 0.7, 0.6])
        ''
    """

    def __init__(
        self,
        degradation: float = 0.02,
        degraded: int = 5,
        rising: int = 4,
        change: float = 0.02,
        still: int = 4,
        most: int = 40,
    ) -> None:
        expect(degradation=degradation, change=change, ge=0)
        expect(degraded=degraded, rising=rising, still=still, most=most, ge=1)
        self.degradation, self.degraded, self.rising = degradation, degraded, rising
        self.change, self.still, self.most = change, still, most

    def reason(self, own: Sequence[float], meta: Sequence[float]) -> str:
        """Returns why a client stops, or `""` if it continues.

        Args:
            own: L before its first round of training and after each.
            meta: L_meta at the same times; NaN where no neighbor measured it, which is neither a rise nor
                unchanged.
        """
        now = range(1, len(own))
        if self._running(self.degraded, [own[t] > (1 + self.degradation) * min(own[:t]) for t in now]):
            return "degraded"
        if self._running(self.rising, [own[t] > own[t - 1] and meta[t] <= meta[t - 1] for t in now]):
            return "overfits"
        if self._running(self.still, [self._stands(own, t) and self._stands(meta, t) for t in now]):
            return "still"
        return "most" if len(own) > self.most else ""

    def _stands(self, losses: Sequence[float], t: int) -> bool:
        return abs(losses[t] - losses[t - 1]) < self.change * losses[t - 1]

    @staticmethod
    def _running(rounds: int, seen: Sequence[bool]) -> bool:
        return len(seen) >= rounds and all(seen[-rounds:])
