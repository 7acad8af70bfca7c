"""Use of a cache of knowledge: how often it answered, what that saved, and how old its answers were."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

RATES = ("hit_rate", "age", "acc_hits", "acc_misses")
"""Names that `CacheUse.rates` may give, beside `bytes_saved`."""


@dataclass
class CacheUse:
    """Counts of a client in a round; they add up over clients and rounds.

    Attributes:
        lookups: Samples that the client was to learn.
        hits: Lookups for which the cache had an answer.
        age: Rounds since the answer was made, summed over the hits.
        bytes_saved: Bytes, up and down, that sending all anew would have cost more; below 0 if the cache cost
            more.
        hits_judged: Hits whose true class is known.
        hits_right: Judged hits with the right answer.
        misses_judged: Samples that were asked anew, and whose true class is known.
        misses_right: Judged misses with the right new answer.
    """

    lookups: int = 0
    hits: int = 0
    age: float = 0.0
    bytes_saved: int = 0
    hits_judged: int = 0
    hits_right: int = 0
    misses_judged: int = 0
    misses_right: int = 0

    def __add__(self, other: "CacheUse") -> "CacheUse":
        mine, theirs = asdict(self), asdict(other)
        return CacheUse(**{name: mine[name] + theirs[name] for name in mine})

    def rates(self) -> dict[str, float]:
        """Returns `hit_rate`, `bytes_saved`, and, where known, mean `age` and accuracy of hits and misses.

        Example:
            >>> CacheUse(lookups=4, hits=2, age=6.0, bytes_saved=80, hits_judged=2, hits_right=1).rates()
            {'hit_rate': 0.5, 'bytes_saved': 80.0, 'age': 3.0, 'acc_hits': 0.5}
        """
        found = {"hit_rate": self.hits / self.lookups} if self.lookups else {}
        found["bytes_saved"] = float(self.bytes_saved)
        for name, amount, number in (
            ("age", self.age, self.hits),
            ("acc_hits", self.hits_right, self.hits_judged),
            ("acc_misses", self.misses_right, self.misses_judged),
        ):
            if number:
                found[name] = amount / number
        return found


def total(uses: Iterable[CacheUse | None]) -> CacheUse | None:
    """Sums uses of caches; None where there is none.

    Example:
        >>> total([CacheUse(lookups=1), None, CacheUse(lookups=2)]).lookups, total([None])
        (3, None)
    """
    found = None
    for use in uses:
        if use is not None:
            found = use if found is None else found + use
    return found
