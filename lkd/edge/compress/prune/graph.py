"""Which channels of a network stand or fall together, and what of its tensors is left without some; by torch-pruning."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from lkd.copies import copied
from lkd.edge.compress.prune.subject import Subject, layers_below
from lkd.edge.extra import optional

OUT, IN = 0, 1
Side = tuple[str, int]
"""Name of a layer, and whether its outputs or inputs are meant."""


@dataclass
class Group:
    """Units of channels that go through several layers; a unit is a channel, one of each group of a convolution, a group of a
    normalization, or a head of attention.

    Attributes:
        layer: Name of the layer that they are counted at.
        units: Numbers of channels of that layer, by unit.
        scores: `(units,)`, how much each matters.
        inwards: Whether they are that layer's inputs.
        widths: How many channels of a layer belong to each unit, by layer and side.
    """

    layer: str
    units: list[list[int]]
    scores: Tensor
    inwards: bool = False
    widths: dict[Side, Tensor] = field(default_factory=dict)


class Traced:
    """A copy of a network, with the dependencies of its layers.

    Args:
        subject: How it is called.
        network: The network, which stays as it is.
        ignore: Names of layers whose channels stay.

    Raises:
        ImportError: Without torch-pruning.
        ValueError: If its layers cannot be followed, or one to ignore is not there.
    """

    def __init__(self, subject: Subject, network: nn.Module, ignore: Iterable[str] = ()) -> None:
        self._pruning = optional("torch_pruning")
        self.network = copied(network, "network").eval()
        for parameter in self.network.parameters():  # layers without gradients would leave no trace
            parameter.requires_grad_(parameter.is_floating_point())
        self.names = {layer: name for name, layer in self.network.named_modules()}
        self.graph: Any = self._pruning.DependencyGraph()
        try:
            with warnings.catch_warnings(), torch.enable_grad():
                warnings.simplefilter("ignore")
                self.graph.build_dependency(
                    self.network,
                    example_inputs=torch.zeros(1),
                    # times one: what gives the outputs becomes an operation of its own, which `_last` finds
                    forward_fn=lambda model, _: [one * 1 for one in subject.outputs(model) if one.requires_grad],
                    verbose=False,
                )
        except (RuntimeError, AttributeError, KeyError, IndexError, TypeError, AssertionError) as error:
            raise ValueError(
                f"{type(network).__name__} cannot be pruned: torch-pruning does not follow its layers "
                f"({type(error).__name__}: {' '.join(str(error).split())[:200]})."
            ) from error
        self.attentions = dict(self._attentions())
        fixed = {*layers_below(self.network, (*subject.fixed, *ignore)), *self._last()}
        for layer in self.network.modules():
            if type(getattr(layer, "num_heads", None)) is int and layer not in self.attentions.values():
                fixed.update(layer.modules())  # attention whose heads are not known one by one
        self.fixed = fixed

    def groups(self) -> list[Group]:
        """All groups from which units may go, in the order of the layers; the weights are what scores are made of.

        Raises:
            ValueError: If a layer cannot be followed; it is named.
        """
        found, seen = [], set[nn.Module]()
        for layer in self.network.modules():
            width = getattr(layer, "out_channels", getattr(layer, "out_features", 0))
            if layer in seen or layer not in self.graph.module2node or not isinstance(layer, _ConvNd | nn.Linear):
                continue
            attention = self.attentions.get(layer)
            if attention is None:
                items = self._items(layer, False, range(width))
            else:
                layer = attention.proj
                items = self._items(layer, True, range(layer.in_features))
            seen.update(target for target, side, _, _ in items if side == OUT)
            units = self._units(layer, items) if attention is None else _chunks(layer.in_features, attention.num_heads)
            if units is not None and len(units) > 1:
                found.append(self._group(layer, units, items, attention is not None))
        return found

    def _group(self, layer: nn.Module, units: list[list[int]], items: list[Any], inwards: bool) -> Group:
        unit_of = {channel: number for number, unit in enumerate(units) for channel in unit}
        whole = self._whole(layer, inwards, range(len(unit_of)))
        scores = self._pruning.importance.GroupMagnitudeImportance(p=1)(whole).cpu().double()
        group = Group(
            self.names[layer], units, torch.stack([scores[unit].mean() for unit in units]), inwards
        )
        for target, side, _, roots in items:
            if isinstance(target, _ConvNd | nn.Linear):
                width = torch.bincount(torch.tensor([unit_of[r] for r in roots]), minlength=len(units))
                key = (self.names[target], side)
                group.widths[key] = group.widths.get(key, 0) + width
        return group

    def _whole(self, layer: Any, inwards: bool, channels: Iterable[int]) -> Any:
        pruner = self.graph.get_pruner_of_module(layer)
        function = pruner.prune_in_channels if inwards else pruner.prune_out_channels
        try:
            return self.graph.get_pruning_group(layer, function, list(channels))
        except (RuntimeError, AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"the channels of layer {self.names[layer]!r} cannot be followed to where they go ({type(error).__name__}: {error}): "
                f"leave it as it is by ignore=[{self.names[layer]!r}]."
            ) from error

    def _items(self, layer: nn.Module, inwards: bool, channels: Iterable[int]) -> list[Any]:
        """Layer (or parameter), side, channels and the root's channels that they belong to."""
        whole = self._whole(layer, inwards, channels)
        return [
            (item.dep.target.module, OUT if self.graph.is_out_channel_pruning_fn(item.dep.handler) else IN, item.idxs, item.root_idxs)
            for item in whole.items
        ]  # fmt: skip

    def _units(self, layer: nn.Module, items: list[Any]) -> list[list[int]] | None:
        """Which channels go together; None if they stay."""
        norms, groups, width = set[int](), set[int](), len(items[0][2])
        for target, side, channels, roots in items:
            if target in self.fixed and side == OUT and not isinstance(target, nn.Parameter):
                return None
            if isinstance(target, nn.Parameter):
                if sum(size > 1 for size in target.shape) > 1:  # which of its dimensions are channels is not known
                    return None
            elif isinstance(target, nn.LayerNorm | nn.MultiheadAttention | nn.RNNBase | nn.Embedding):
                return None  # a normalization over all of them is another one without some
            elif isinstance(target, nn.GroupNorm):
                if channels != roots:
                    return None
                norms.add(target.num_groups)
            elif isinstance(target, _ConvNd) and 1 < target.groups:
                depthwise = target.groups == target.out_channels == target.in_channels
                if not depthwise and target.groups == target.out_channels:
                    return None
                if not depthwise:
                    groups.add(target.groups)
        if len(norms | groups) > 1 or (norms and groups):
            return None
        if norms:
            return _chunks(width, norms.pop())
        if groups:
            count = groups.pop()
            return [list(range(first, width, width // count)) for first in range(width // count)]
        return [[channel] for channel in range(width)]

    def _last(self) -> Iterator[nn.Module]:
        """The layers whose channels are those of the outputs."""
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
                if not (isinstance(node.module, _ConvNd) and node.module.groups == node.module.in_channels > 1):
                    continue
            stack += node.inputs

    def _attentions(self) -> Iterator[tuple[nn.Module, Any]]:
        """Attention of timm's kind by its `qkv`: heads of equal size one after the other, and no weights but those of `qkv` and `proj`."""
        for layer in self.network.modules():
            qkv, proj, heads = (getattr(layer, name, None) for name in ("qkv", "proj", "num_heads"))
            if not (isinstance(qkv, nn.Linear) and isinstance(proj, nn.Linear) and type(heads) is int):
                continue
            inside = sum(1 for _ in layer.parameters()) == sum(1 for part in (qkv, proj) for _ in part.parameters())
            if inside and getattr(layer, "attn_dim", None) == proj.in_features == qkv.out_features // 3:
                yield qkv, layer

    def left(self, groups: Iterable[Group], removed: Iterable[set[int]]) -> dict[str, Tensor]:
        """Takes units out of this copy, and says what is left. It can be done once.

        Args:
            groups: All groups.
            removed: Numbers of the units that go, by group.

        Returns:
            Of each tensor that is smaller now, by its name, which of its numbers are left, in its new shape.
        """
        layers = {name: layer for layer, name in self.names.items()}
        before = {name: tensor.shape for name, tensor in _all(self.network)}
        for _, tensor in _all(self.network):
            tensor.data = torch.arange(tensor.numel(), dtype=torch.float64).reshape(tensor.shape)
        for group, gone in zip(groups, removed, strict=True):
            if not gone:
                continue
            channels = sorted(channel for number in gone for channel in group.units[number])
            whole = self._whole(layers[group.layer], group.inwards, channels)
            for target in {item.dep.target.module for item in whole.items}:
                if isinstance(target, nn.GroupNorm):
                    target.num_groups -= len(gone)
            whole.prune(record_history=False)
            for attention in self.attentions.values():
                if attention.proj is layers[group.layer] and group.inwards:
                    attention.num_heads -= len(gone)
                    attention.attn_dim = attention.proj.in_features
        return {name: t.detach().long() for name, t in _all(self.network) if t.shape != before[name]}


def _all(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    for layer_name, layer in network.named_modules():
        if isinstance(layer, _BatchNorm | nn.modules.instancenorm._InstanceNorm):
            for key in ("running_mean", "running_var"):
                if (tensor := layer._buffers.get(key)) is not None:
                    yield f"{layer_name}.{key}", tensor


def _chunks(width: int, count: int) -> list[list[int]]:
    return [list(range(first, first + width // count)) for first in range(0, width, width // count)]
