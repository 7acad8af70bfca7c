"""Torchmetrics of a client's module, emptied for every client: only where one was used, since that is slow."""

from collections.abc import Collection, Iterable
from typing import Any, TypeGuard

from torch import Tensor, nn
from torchmetrics import Metric

from lkd.kept import version

RESET = frozenset({"_update_count", "_forward_cache", "_computed", "_cache", "_is_synced"})
"""Attributes that `Metric.reset` sets, beside a metric's own states."""


class FreshMetrics:
    """The metrics of a module, which are reset where they may hold figures.

    Args:
        parts: The module and all modules inside.

    Example:
        >>> from torchmetrics import SumMetric
        >>> metric = SumMetric()
        >>> fresh = FreshMetrics([metric])
        >>> metric.update(3.0)
        >>> fresh.reset()
        >>> metric.update_called, metric.sum_value
        (False, tensor(0.))
    """

    def __init__(self, parts: Iterable[nn.Module]) -> None:
        self._metrics = [part for part in parts if is_metric(part)]
        self._fresh: list[list[tuple[Any, int]]] = [[] for _ in self._metrics]

    def reset(self) -> None:
        """Empties those that were updated, or whose states are not as the last reset left them."""
        for i, metric in enumerate(self._metrics):
            now = _states(metric)
            same = [a is b and n == m for (a, n), (b, m) in zip(now, self._fresh[i], strict=False)]
            if metric.update_called or len(same) != len(now) or not all(same):
                metric.reset()
                self._fresh[i] = _states(metric)


def _states(metric: Metric) -> list[tuple[Any, int]]:
    """Lists a metric's states, each with how often it was changed in place, or how many entries it has."""
    states = metric.metric_state.values()
    return [(s, version(s) if isinstance(s, Tensor) else len(s)) for s in states]


def reset_attributes(part: nn.Module) -> Collection[str]:
    """Returns the attributes that a reset brings back, so that nobody else has to; none of other modules.

    Example:
        >>> reset_attributes(nn.ReLU())
        ()
    """
    return RESET.union(part.metric_state) if is_metric(part) else ()


def is_metric(part: nn.Module) -> TypeGuard[Metric]:
    """Tells whether a module is a torchmetrics `Metric`, without the slow check of abstract classes."""
    return Metric in type(part).__mro__
