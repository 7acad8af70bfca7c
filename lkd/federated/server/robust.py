"""Robust aggregation as classes, which a configuration can name; `robust_functional` explains the rules."""

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
    """Base of rules that join the updates of a round: `rule(updates (K, P)) -> (P,)`.

    A configuration names a subclass, also one of your own, by `class_path`.
    """

    @property
    def min_clients(self) -> int:
        """Number of clients that it needs at least, checked before each round."""
        return 1

    def reseed(self, seed: int) -> None:
        """Sets the seed of the rule's draws; called before each round, and passed on to an inner `rule`.

        Args:
            seed: Derived from the federation's seed and the round's number, so it is the same on every rank
                and in a resumed run.
        """
        reseed([getattr(self, "rule", None)], seed)

    @abstractmethod
    def __call__(self, updates: Tensor) -> Tensor:
        """Joins `updates (K, P)`, one row per client in ascending order of ids, to one `(P,)`."""


class CoordinateMedian(Rule):
    """Rule that takes the median of every coordinate, see `coordinate_median`."""

    def __call__(self, updates: Tensor) -> Tensor:
        """Joins updates `(K, P)` to one `(P,)`."""
        return coordinate_median(updates)


class TrimmedMean(Rule):
    """Rule that averages every coordinate without its extremes, see `trimmed_mean`.

    Args:
        trim: Share of the clients that is cut at each end, for every coordinate.
    """

    def __init__(self, trim: float = 0.2) -> None:
        trimmed_mean(torch.zeros(1, 1), trim)  # checks trim now, not after the first round
        self.trim = trim

    def __call__(self, updates: Tensor) -> Tensor:
        """Joins updates `(K, P)` to one `(P,)`."""
        return trimmed_mean(updates, self.trim)


class Krum(Rule):
    """Rule that chooses updates with close neighbors, see `krum`.

    Args:
        byzantine: Number of clients in a round that may be wrong.
        keep: Number of updates that are averaged; more than 1 is Multi-Krum.
    """

    def __init__(self, byzantine: int, keep: int = 1) -> None:
        expect(byzantine=byzantine, ge=0)
        expect(keep=keep, ge=1)
        self.byzantine, self.keep = byzantine, keep

    @property
    def min_clients(self) -> int:
        """`2 byzantine + 3` clients, and enough for `keep` right ones."""
        return max(2 * self.byzantine + 3, self.byzantine + self.keep)

    def __call__(self, updates: Tensor) -> Tensor:
        """Joins updates `(K, P)` to one `(P,)`."""
        return krum(updates, self.byzantine, self.keep)


class GeometricMedian(Rule):
    """Rule that takes the geometric median of the updates, see `geometric_median`.

    Args:
        iterations: Largest number of Weiszfeld iterations.
        tolerance: Length of the mean pull below which they end early.
        smoothing: Distance below which an update pulls less.
    """

    def __init__(self, iterations: int = 100, tolerance: float = 1e-6, smoothing: float = 1e-6) -> None:
        geometric_median(torch.zeros(1, 1), iterations, tolerance, smoothing)
        self.iterations, self.tolerance, self.smoothing = iterations, tolerance, smoothing

    def __call__(self, updates: Tensor) -> Tensor:
        """Joins updates `(K, P)` to one `(P,)`."""
        return geometric_median(updates, self.iterations, self.tolerance, self.smoothing)


class NormClipping(Rule):
    """Rule that clips the updates (see `clip_norms`), then joins them by another rule.

    Args:
        max_norm: Length to which longer updates are clipped. Default: the median of the round's norms.
        rule: Rule that joins them. Default: the mean, in which clients count alike.
    """

    def __init__(self, max_norm: float | None = None, rule: Rule | None = None) -> None:
        clip_norms(torch.zeros(1, 1), max_norm)
        self.max_norm, self.rule = max_norm, None if rule is None else _checked(rule)

    @property
    def min_clients(self) -> int:
        """Number of clients that the other rule needs."""
        return 1 if self.rule is None else self.rule.min_clients

    def __call__(self, updates: Tensor) -> Tensor:
        """Joins updates `(K, P)` to one `(P,)`."""
        clipped = clip_norms(updates, self.max_norm)
        return trimmed_mean(clipped, 0.0) if self.rule is None else self.rule(clipped)


class Bucketing(Rule):
    """Rule that averages random buckets of clients (see `bucketing`), then applies another rule.

    Args:
        rule: Rule that joins the buckets.
        size: Clients per bucket; 1 is the rule itself. Default 2.

    Raises:
        ValueError: If `size` is below 1.
        TypeError: For a `rule` that is not a `Rule`.

    Example:
        >>> Bucketing(CoordinateMedian())(torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
        tensor([2.5000])
    """

    def __init__(self, rule: Rule, size: int = 2) -> None:
        bucketing(torch.zeros(1, 1), size)
        self.rule, self.size, self._seed = _checked(rule), size, 0

    @property
    def min_clients(self) -> int:
        """Number of clients that fill the buckets that the other rule needs."""
        return (self.rule.min_clients - 1) * self.size + 1

    def reseed(self, seed: int) -> None:
        """Sets the seed of the buckets, which are other ones in every round."""
        self._seed = seed
        super().reseed(seed)

    def __call__(self, updates: Tensor) -> Tensor:
        """Joins updates `(K, P)` to one `(P,)`."""
        return self.rule(bucketing(updates, self.size, self._seed))


class NearestNeighborMixing(Rule):
    """Rule that averages each client's nearest updates (see `mix_nearest`), then applies another rule.

    Args:
        rule: Rule that joins the averages.
        byzantine: Number of clients in a round that may be wrong.

    Raises:
        ValueError: If `byzantine` is negative.
        TypeError: For a `rule` that is not a `Rule`.

    Example:
        >>> NearestNeighborMixing(CoordinateMedian(), byzantine=1)(torch.tensor([[1.0], [2.0], [9.0]]))
        tensor([1.5000])
    """

    def __init__(self, rule: Rule, byzantine: int) -> None:
        expect(byzantine=byzantine, ge=0)
        self.rule, self.byzantine = _checked(rule), byzantine

    @property
    def min_clients(self) -> int:
        """More than twice `byzantine`, and the number that the other rule needs."""
        return max(2 * self.byzantine + 1, self.rule.min_clients)

    def __call__(self, updates: Tensor) -> Tensor:
        """Joins updates `(K, P)` to one `(P,)`."""
        return self.rule(mix_nearest(updates, self.byzantine))


def reseed(rules: Iterable[object], seed: int) -> None:
    """Sets the seed of those objects that are rules; see `Rule.reseed`."""
    for rule in rules:
        if isinstance(rule, Rule):
            rule.reseed(seed)


def _checked(rule: Rule) -> Rule:
    if not isinstance(rule, Rule):
        raise TypeError(f"rule={shown(rule)} must be an object of Rule, such as CoordinateMedian().")
    return rule
