"""What a cache of knowledge was good for: how often it answered, what that saved, and how stale it was."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

RATES = ("hit_rate", "age", "acc_hits", "acc_misses")
"""Names of what `CacheUse.rates` may give, beside `bytes_saved`."""


@dataclass
class CacheUse:
    """Counts of a client in a round; they add up over clients and rounds.

    Attributes:
        lookups: Samples of which it was to learn something.
        hits: Those of them for which the cache had an answer.
        age: Sum over the hits of the rounds since the answer was made.
        bytes_saved: What more would have travelled, up and down, had all been sent anew; below 0 if the cache cost more.
        hits_judged: Hits whose true class is known.
        hits_right: Those of them whose answer was right.
        misses_judged: Samples that were asked anew, and whose true class is known.
        misses_right: Those of them whose new answer was right.
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
        """`hit_rate`, `bytes_saved`, and what can be said: mean `age` of the hits, accuracy of hits and misses.

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
    """The sum; None where nobody has used a cache.

    Example:
        >>> total([CacheUse(lookups=1), None, CacheUse(lookups=2)]).lookups, total([None])
        (3, None)
    """
    found = None
    for use in uses:
        if use is not None:
            found = use if found is None else found + use
    return found
