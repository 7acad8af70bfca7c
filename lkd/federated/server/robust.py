"""Robust aggregation as rules that a config names; what each does, and why none weights by samples, is in `robust`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from lkd.checks import expect
from lkd.federated.server.robust_functional import (
    clip_norms,
    coordinate_median,
    geometric_median,
    krum,
    trimmed_mean,
)
from lkd.federated.server.update_mixing import bucketing, mix_nearest
from lkd.shown import shown


class Rule(ABC):
    """How the server joins the updates of a round: `rule(updates (K, P)) -> (P,)`.

    A subclass, yours too, is named in a config by `class_path`.
    """

    @property
    def min_clients(self) -> int:
        """How many clients it needs at least; asked before a round, so that nobody trains in vain."""
        return 1

    def reseed(self, seed: int) -> None:
        """Told before each round where its draws are to come from; a rule that holds another as `rule` tells that.

        Args:
            seed: Of the federation's seed and the round's number, so the same on every rank and in a run that is resumed.
        """
        reseed([getattr(self, "rule", None)], seed)

    @abstractmethod
    def __call__(self, updates: Tensor) -> Tensor:
        """Joins `updates (K, P)`, a client a row in ascending order of ids, to one `(P,)`."""


class CoordinateMedian(Rule):
    """See `coordinate_median`."""

    def __call__(self, updates: Tensor) -> Tensor:
        """`(K, P)` -> `(P,)`."""
        return coordinate_median(updates)


class TrimmedMean(Rule):
    """See `trimmed_mean`.

    Args:
        trim: Share of the clients that is cut at each end, for every coordinate.
    """

    def __init__(self, trim: float = 0.2) -> None:
        trimmed_mean(torch.zeros(1, 1), trim)  # says now what is wrong, not after the first round
        self.trim = trim

    def __call__(self, updates: Tensor) -> Tensor:
        """`(K, P)` -> `(P,)`."""
        return trimmed_mean(updates, self.trim)


class Krum(Rule):
    """See `krum`.

    Args:
        byzantine: How many clients of a round may be wrong.
        keep: How many updates are averaged; more than 1 is Multi-Krum.
    """

    def __init__(self, byzantine: int, keep: int = 1) -> None:
        expect(byzantine=byzantine, ge=0)
        expect(keep=keep, ge=1)
        self.byzantine, self.keep = byzantine, keep

    @property
    def min_clients(self) -> int:
        """`2 byzantine + 3`, and as many right ones as are kept."""
        return max(2 * self.byzantine + 3, self.byzantine + self.keep)

    def __call__(self, updates: Tensor) -> Tensor:
        """`(K, P)` -> `(P,)`."""
        return krum(updates, self.byzantine, self.keep)


class GeometricMedian(Rule):
    """See `geometric_median`.

    Args:
        iterations: Weiszfeld rounds at most.
        tolerance: Ends them earlier.
        smoothing: Distance below which an update pulls less.
    """

    def __init__(self, iterations: int = 100, tolerance: float = 1e-6, smoothing: float = 1e-6) -> None:
        geometric_median(torch.zeros(1, 1), iterations, tolerance, smoothing)
        self.iterations, self.tolerance, self.smoothing = iterations, tolerance, smoothing

    def __call__(self, updates: Tensor) -> Tensor:
        """`(K, P)` -> `(P,)`."""
        return geometric_median(updates, self.iterations, self.tolerance, self.smoothing)


class NormClipping(Rule):
    """Clips the updates (see `clip_norms`), then joins them by another rule.

    Args:
        max_norm: Longest update; default the median of the round's norms.
        rule: What joins them; default the mean, in which the clients count equally.
    """

    def __init__(self, max_norm: float | None = None, rule: Rule | None = None) -> None:
        clip_norms(torch.zeros(1, 1), max_norm)
        self.max_norm, self.rule = max_norm, None if rule is None else _checked(rule)

    @property
    def min_clients(self) -> int:
        """That of the other rule."""
        return 1 if self.rule is None else self.rule.min_clients

    def __call__(self, updates: Tensor) -> Tensor:
        """`(K, P)` -> `(P,)`."""
        clipped = clip_norms(updates, self.max_norm)
        return trimmed_mean(clipped, 0.0) if self.rule is None else self.rule(clipped)


class Bucketing(Rule):
    """Means of random buckets of clients (see `bucketing`), then another rule.

    Args:
        rule: What joins the buckets.
        size: Clients in a bucket; 1 is the rule itself. Default 2.

    Raises:
        ValueError: If `size` is below 1.
        TypeError: For a rule that is none.

    Example:
        >>> Bucketing(CoordinateMedian())(torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
        tensor([2.5000])
    """

    def __init__(self, rule: Rule, size: int = 2) -> None:
        bucketing(torch.zeros(1, 1), size)
        self.rule, self.size, self._seed = _checked(rule), size, 0

    @property
    def min_clients(self) -> int:
        """As many as make the buckets that the other rule needs."""
        return (self.rule.min_clients - 1) * self.size + 1

    def reseed(self, seed: int) -> None:
        """Other buckets in every round."""
        self._seed = seed
        super().reseed(seed)

    def __call__(self, updates: Tensor) -> Tensor:
        """`(K, P)` -> `(P,)`."""
        return self.rule(bucketing(updates, self.size, self._seed))


class NearestNeighborMixing(Rule):
    """Means of every client's nearest ones (see `mix_nearest`), then another rule.

    Args:
        rule: What joins them.
        byzantine: How many clients of a round may be wrong.

    Raises:
        ValueError: If `byzantine` is negative.
        TypeError: For a rule that is none.

    Example:
        >>> NearestNeighborMixing(CoordinateMedian(), byzantine=1)(torch.tensor([[1.0], [2.0], [9.0]]))
        tensor([1.5000])
    """

    def __init__(self, rule: Rule, byzantine: int) -> None:
        expect(byzantine=byzantine, ge=0)
        self.rule, self.byzantine = _checked(rule), byzantine

    @property
    def min_clients(self) -> int:
        """More than twice as many as may be wrong, and as many as the other rule needs."""
        return max(2 * self.byzantine + 1, self.rule.min_clients)

    def __call__(self, updates: Tensor) -> Tensor:
        """`(K, P)` -> `(P,)`."""
        return self.rule(mix_nearest(updates, self.byzantine))


def reseed(rules: Iterable[object], seed: int) -> None:
    """Tells those of these objects that are rules; see `Rule.reseed`."""
    for rule in rules:
        if isinstance(rule, Rule):
            rule.reseed(seed)


def _checked(rule: Rule) -> Rule:
    if not isinstance(rule, Rule):
        raise TypeError(f"rule={shown(rule)} must be an object of Rule, such as CoordinateMedian().")
    return rule
