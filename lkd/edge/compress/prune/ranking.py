"""Choice of the units to remove: the least important first, until the network is as small as was asked."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from lkd.edge.compress.prune.graph import IN, OUT, Group, Side
from lkd.edge.compress.prune.subject import Subject

Scope = Literal["global", "local"]
CLOSE = 0.01
"""Largest relative deviation from the target at which the order of importance is kept."""
Removed = list[set[int]]
"""Numbers of the removed units, by group."""


class Ranking:
    """The order in which units are removed. One unit of each group always stays.

    Args:
        groups: All groups.
        scope: `"global"` removes the least important of all groups first. `"local"` removes the same share of
            each group.
        round_to: Groups keep a multiple of this number of channels where single channels can be removed;
            groups of larger units lose nothing that would leave less than one multiple.

    Example:
        >>> one, two = (Group(name, [[0], [1], [2]], torch.tensor(s)) for name, s in (("a", [3., 1., 2.]), ("b", [9., 8., 0.])))
        >>> Ranking([one, two], "global").removed(0.5)
        [{1, 2}, {2}]
        >>> Ranking([one, two], "local").removed(0.4)
        [{1}, {2}]
    """

    def __init__(self, groups: Sequence[Group], scope: Scope, round_to: int = 1) -> None:
        self.groups, self.scope, self.round_to = groups, scope, round_to
        self.orders = [torch.nan_to_num(g.scores).argsort(stable=True).tolist() for g in groups]
        places = [
            (float(torch.nan_to_num(g.scores)[u]), k) for k, g in enumerate(groups) for u in self.orders[k]
        ]
        self._queue = [k for _, k in sorted(places, key=lambda place: place[0])]

    def removed(self, share: float) -> Removed:
        """Returns the units to remove.

        Args:
            share: Share of all units, in [0, 1].
        """
        sizes = [len(group.units) for group in self.groups]
        if self.scope == "local":
            counts = [math.floor(share * size) for size in sizes]
        else:
            counts, wanted = [0] * len(sizes), math.floor(share * sum(sizes))
            for k in self._queue:
                if not wanted:
                    break
                if counts[k] < sizes[k] - 1:
                    counts[k] += 1
                    wanted -= 1
        return [
            set(order[: self._rounded(group, count)])
            for group, order, count in zip(self.groups, self.orders, counts, strict=True)
        ]

    def one_more(self, removed: Removed) -> Iterator[Removed]:
        """Yields the same with one more unit, the next of each group in turn."""
        for k, (order, gone) in enumerate(zip(self.orders, removed, strict=True)):
            count = self._rounded(self.groups[k], len(gone) + 1)
            if len(gone) < count < len(order):
                yield [*removed[:k], set(order[:count]), *removed[k + 1 :]]

    def _rounded(self, group: Group, count: int) -> int:
        units = len(group.units)
        if len(group.units[0]) > 1:
            return min(count, units - 1)
        left = max(units - count, 1)
        return max(0, units - math.ceil(left / self.round_to) * self.round_to)


class WidthCosts:
    """Multiply-accumulates of convolutions and linear layers, computed from the widths that are left.

    Args:
        subject: How the network is called.
        network: The network, whole.
    """

    def __init__(self, subject: Subject, network: nn.Module) -> None:
        self._layers: dict[str, nn.Module] = {
            name: layer for name, layer in network.named_modules() if isinstance(layer, _ConvNd | nn.Linear)
        }
        self._positions = dict.fromkeys(self._layers, 0.0)
        handles = [layer.register_forward_hook(self._count(name)) for name, layer in self._layers.items()]
        try:
            self.whole = subject.macs(network)
        finally:
            for handle in handles:
                handle.remove()
        self._rest = self.whole - self._sum({})

    def _count(self, name: str) -> Callable[..., None]:
        return lambda layer, inputs, output: self._add(name, layer, inputs[0], output)

    def _add(self, name: str, layer: nn.Module, given: Tensor, gave: Tensor) -> None:
        spread = isinstance(layer, _ConvTransposeNd)  # each input position is spread over outputs
        values, side = (given, IN) if spread else (gave, OUT)
        self._positions[name] += values.numel() / _widths(layer)[side]

    def of(self, groups: Sequence[Group], removed: Removed) -> float:
        """Returns the multiply-accumulates that are left.

        Args:
            groups: All groups.
            removed: Units that are removed.
        """
        return self._rest + self._sum(
            {part: len(channels) for part, channels in lost(groups, removed).items()}
        )

    def _sum(self, fewer: dict[Side, int]) -> float:
        total = 0.0
        for name, layer in self._layers.items():
            out, inside = (width - fewer.get((name, side), 0) for side, width in enumerate(_widths(layer)))
            groups = getattr(layer, "groups", 1)
            depthwise = groups > 1 and groups == _widths(layer)[OUT]
            kernel = math.prod(getattr(layer, "kernel_size", ()))
            total += self._positions[name] * kernel * (out if depthwise else out * inside / groups)
        return total

    def reaching(self, ranking: Ranking, share: float) -> Removed:
        """Returns the units to remove so that nearly a given share of the multiply-accumulates is left.

        Args:
            ranking: Order of removal.
            share: Share of the whole that is left.

        Raises:
            ValueError: If not that many units can be removed.
        """
        least = self.of(ranking.groups, ranking.removed(1.0)) / self.whole
        if share < least:
            raise ValueError(
                f"macs={share:g} cannot be reached: with all channels gone that can go, one left of each, {least:.3f} of them are left; "
                "ask for more, or ignore fewer layers."
            )
        low, high = 0.0, 1.0
        for _ in range(24):
            middle = (low + high) / 2
            if self.of(ranking.groups, ranking.removed(middle)) / self.whole > share:
                low = middle
            else:
                high = middle

        def missed(removed: Removed) -> float:
            return abs(self.of(ranking.groups, removed) / self.whole / share - 1)

        less, more = ranking.removed(low), ranking.removed(high)
        best = min(less, more, key=missed)
        # if the next unit in turn would remove too much, one of another group may do
        return best if missed(best) < CLOSE else min([best, *ranking.one_more(less)], key=missed)


def lost(groups: Sequence[Group], removed: Removed) -> dict[Side, set[int]]:
    """Returns which channels are removed, by layer (or parameter) and side.

    Args:
        groups: All groups.
        removed: Units that are removed.
    """
    found: dict[Side, set[int]] = {}
    for group, gone in zip(groups, removed, strict=True):
        if gone:
            for part, (channels, units) in group.parts.items():
                there = channels[torch.isin(units, torch.tensor(sorted(gone)))]
                found.setdefault(part, set()).update(there.tolist())
    return found


def _widths(layer: nn.Module) -> tuple[int, int]:
    """Returns the numbers of outputs and inputs of a layer."""
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    convolution = cast(_ConvNd, layer)
    return convolution.out_channels, convolution.in_channels
