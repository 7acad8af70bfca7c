"""Channels of a network that must be removed together, and what is left of its tensors then.

The dependencies are found by torch-pruning.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from lkd.copies import copied
from lkd.edge.compress.prune.stuck import ERRORS, stuck
from lkd.edge.compress.prune.subject import Subject, layers_below
from lkd.edge.compress.prune.tracing import attentions, frozen, opaque
from lkd.edge.extra import optional

OUT, IN = 0, 1
Side = tuple[str, int]
"""Name of a layer, and whether its outputs or inputs are meant."""


@dataclass
class Group:
    """Units of channels that run through several layers.

    A unit is a channel, one channel of each group of a convolution, a group of a normalization, or a head of
    attention.

    Attributes:
        layer: Name of the layer that the units are counted at.
        units: Numbers of channels of that layer, by unit.
        scores: `(units,)`, how much each unit matters.
        parts: Channels of the units in other layers or parameters, and the unit of each; by name and side.
        heads: Name of the attention whose heads the units are.
    """

    layer: str
    units: list[list[int]]
    scores: Tensor
    parts: dict[Side, tuple[Tensor, Tensor]] = field(default_factory=dict)
    heads: str | None = None


class Traced:
    """A copy of a network, with the dependencies of its layers.

    Args:
        subject: How the network is called.
        network: The network, which stays as it is.
        ignore: Names of layers whose channels stay.

    Raises:
        ImportError: Without torch-pruning.
        ValueError: If its layers cannot be traced, or a layer to ignore does not exist.
    """

    def __init__(self, subject: Subject, network: nn.Module, ignore: Iterable[str] = ()) -> None:
        self._pruning = optional("torch_pruning")
        self.network = copied(network, "network").eval()
        for parameter in self.network.parameters():  # tracing needs gradients in every layer
            parameter.requires_grad_(parameter.is_floating_point())
        self.names = {layer: name for name, layer in self.network.named_modules()}
        self.attentions = dict(attentions(self.network))
        self.stuck, self.ignored = stuck(self.network), set(layers_below(self.network, tuple(ignore)))
        closed = [layer for layer in self.network.modules() if self._is_closed(layer)]
        self.graph: Any = self._pruning.DependencyGraph()
        try:
            with warnings.catch_warnings(), torch.enable_grad(), opaque(closed) as ends:
                warnings.simplefilter("ignore")
                self.graph.build_dependency(
                    self.network,
                    example_inputs=torch.zeros(1),
                    # times one: makes the outputs an operation of their own, which `_last` finds
                    forward_fn=lambda model, _: [
                        one * 1 for one in (*subject.outputs(model), *ends) if one.requires_grad
                    ],
                    verbose=False,
                )
        except (RuntimeError, AttributeError, KeyError, IndexError, TypeError, AssertionError) as error:
            raise ValueError(
                f"{type(network).__name__} cannot be pruned: torch-pruning does not follow its layers "
                f"({type(error).__name__}: {' '.join(str(error).split())[:200]})."
            ) from error
        self.fixed = {*layers_below(self.network, subject.fixed), *self.ignored, *self._last()}
        for layer in closed:
            self.fixed.update(layer.modules())

    def _is_closed(self, layer: nn.Module) -> bool:
        """Returns whether a layer's single channels are unknown, as in recurrent layers."""
        heads = type(getattr(layer, "num_heads", None)) is int and layer not in self.attentions.values()
        return heads or isinstance(layer, nn.RNNBase)

    def groups(self) -> list[Group]:
        """Returns all groups that can lose units, in layer order, with weights in place of scores.

        Raises:
            ValueError: If a layer cannot be traced; the message names it.
        """
        found, seen = [], set[nn.Module]()
        for layer in self.network.modules():
            known = layer in self.graph.module2node and isinstance(layer, _ConvNd | nn.Linear)
            if not known or layer in seen or layer in self.fixed:
                continue
            attention = self.attentions.get(layer)
            whole = self._whole(layer if attention is None else attention.proj, attention is not None)
            seen.update(item.dep.target.module for item in whole.items if self._side(item) == OUT)
            width = len(whole[0].idxs)
            units = self._units(width, whole) if attention is None else chunks(width, attention.num_heads)
            if units is not None and len(units) > 1 and not self._is_ignored(whole):
                self._check_stuck(whole)
                with self._followed(attention.proj if attention is not None else layer):
                    found.append(self._group(layer, units, whole))
                found[-1].heads = None if attention is None else self.names[attention]
        return found

    def _group(self, layer: nn.Module, units: list[list[int]], whole: Any) -> Group:
        unit_of = torch.empty(len(whole[0].idxs), dtype=torch.long)
        for number, unit in enumerate(units):
            unit_of[unit] = number
        scores = self._pruning.importance.GroupMagnitudeImportance(p=1)(whole).cpu().double()
        group = Group(self.names[layer], units, torch.stack([scores[unit].mean() for unit in units]))
        for item in whole.items:
            target = item.dep.target.module
            name = self.names.get(target) or self.graph._param_to_name.get(target)
            if name is not None:  # None is an operation without weights
                part = torch.tensor(item.idxs), unit_of[torch.tensor(item.root_idxs)]
                before = group.parts.get((name, self._side(item)))
                joined = part if before is None else tuple(map(torch.cat, zip(before, part, strict=True)))
                group.parts[name, self._side(item)] = (joined[0], joined[1])
        return group

    def _side(self, item: Any) -> int:
        return OUT if self.graph.is_out_channel_pruning_fn(item.dep.handler) else IN

    def _whole(self, layer: Any, inwards: bool) -> Any:
        """Returns where all channels of a layer go; every other layer is reached from one of them."""
        pruner = self.graph.get_pruner_of_module(layer)
        function = pruner.prune_in_channels if inwards else pruner.prune_out_channels
        width = (pruner.get_in_channels if inwards else pruner.get_out_channels)(layer)
        with self._followed(layer), frozen():
            return self.graph.get_pruning_group(layer, function, range(width))

    def _is_ignored(self, whole: Any) -> bool:
        """Returns whether channels run through a layer that can lose none, and the user said that it stays."""
        met = [
            self.stuck[item.dep.target.module] for item in whole.items if item.dep.target.module in self.stuck
        ]
        return any(self.ignored.issuperset(one.layers.values()) for one in met)

    def _check_stuck(self, whole: Any) -> None:
        for item in whole.items:
            if (found := self.stuck.get(item.dep.target.module)) is not None:
                raise found.refused()

    @contextmanager
    def _followed(self, layer: nn.Module) -> Iterator[None]:
        """Makes one sentence of torch-pruning's errors about the channels of a layer."""
        try:
            yield
        except ERRORS as error:
            raise ValueError(
                f"the channels of layer {self.names[layer]!r} cannot be followed to where they go ({type(error).__name__}: {error}): "
                f"leave it as it is by ignore=[{self.names[layer]!r}]."
            ) from error

    def _units(self, width: int, whole: Any) -> list[list[int]] | None:
        """Returns which channels go together, or None if they stay."""
        norms, groups = set[int](), set[int]()
        for item in whole.items:
            target = item.dep.target.module
            if self._side(item) == OUT and not isinstance(target, nn.Parameter) and target in self.fixed:
                return None
            same = item.idxs == item.root_idxs and len(item.idxs) == width  # groups there are groups here
            if isinstance(target, nn.Parameter):
                if sum(size > 1 for size in target.shape) > 1:  # the dimension of channels is not known
                    return None
            elif isinstance(target, nn.LayerNorm | nn.MultiheadAttention | nn.RNNBase | nn.Embedding):
                return None  # a normalization over all channels changes when some are removed
            elif isinstance(target, nn.GroupNorm):
                if not same:
                    return None
                norms.add(target.num_groups)
            elif isinstance(target, _ConvNd) and target.groups > 1:
                if target.groups == target.out_channels == target.in_channels:
                    continue  # depthwise: one filter for each channel
                if not same or target.groups in (target.out_channels, target.in_channels):
                    return None
                groups.add(target.groups)
        if len(norms | groups) > 1 or (norms and groups):
            return None
        if norms:
            return chunks(width, norms.pop())
        if groups:
            count = groups.pop()
            return [list(range(first, width, width // count)) for first in range(width // count)]
        return [[channel] for channel in range(width)]

    def _last(self) -> Iterator[nn.Module]:
        """Yields the layers whose channels are those of the outputs."""
        nodes = self.graph.module2node
        stack = [node for node in nodes.values() if type(node.module).__name__ == "_OutputOp"]
        seen = set()
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if isinstance(node.module, _ConvNd | nn.Linear):
                yield node.module
                if not (
                    isinstance(node.module, _ConvNd) and node.module.groups == node.module.in_channels > 1
                ):
                    continue
            stack += node.inputs


def chunks(width: int, count: int) -> list[list[int]]:
    """Splits the numbers up to a width into this many runs of one length."""
    return [list(range(first, first + width // count)) for first in range(0, width, width // count)]
