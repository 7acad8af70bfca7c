"""Removal of channels from a network, with a check that nothing else was removed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from lkd.copies import copied
from lkd.edge.compress.prune.graph import IN, Group, Traced
from lkd.edge.compress.prune.ranking import Removed, lost
from lkd.edge.compress.prune.stuck import ERRORS
from lkd.edge.compress.prune.subject import Subject
from lkd.pruned import numbers, resize

TOLERANCE = 0.001
"""Largest difference between a network without channels and one in which they are zero, as a share of the largest output."""


@dataclass(frozen=True)
class Left:
    """What is left of a network after pruning.

    Attributes:
        places: For each tensor that is smaller, which of its numbers are left, in its new shape.
        numbers: For each layer, its new width.
    """

    places: dict[str, Tensor]
    numbers: dict[str, dict[str, int]]


def left(traced: Traced, groups: Sequence[Group], removed: Removed) -> Left:
    """Returns what is left of a network without some units.

    Args:
        traced: The network.
        groups: All of its groups.
        removed: Units that are removed.
    """
    narrow = copied(traced.network, "network")
    before = {name: tensor.shape for name, tensor in _tensors(narrow)}
    for _, tensor in _tensors(narrow):  # float64 holds every place exactly
        tensor.data = torch.arange(tensor.numel(), dtype=torch.float64).reshape(tensor.shape)
    layers: dict[str, Any] = {**dict(narrow.named_modules()), **dict(narrow.named_parameters())}
    for (name, side), channels in lost(groups, removed).items():
        layer = layers[name]
        if isinstance(layer, nn.GroupNorm):
            layer.num_groups -= len(channels) * layer.num_groups // layer.num_channels
        pruner = traced.graph.get_pruner_of_module(layer)
        cut_off = pruner.prune_in_channels if side == IN else pruner.prune_out_channels
        if isinstance(layer, nn.Parameter):
            dimension = next(d for d, size in reversed(list(enumerate(layer.shape))) if size > 1)
            stay = torch.tensor(sorted(set(range(layer.shape[dimension])) - channels))
            resize(narrow, name, layer.detach().index_select(dimension, stay))
        else:
            try:
                cut_off(layer, sorted(channels))
            except ERRORS as error:
                raise ValueError(
                    f"layer {name!r} cannot be made narrower ({_short(error)}): leave it as it is by ignore=[{name!r}]."
                ) from error
    for group, gone in zip(groups, removed, strict=True):
        if group.heads is not None:
            layers[group.heads].num_heads -= len(gone)
            layers[group.heads].attn_dim = layers[group.heads].proj.in_features
    return Left(
        {name: tensor.detach().long() for name, tensor in _tensors(narrow) if tensor.shape != before[name]},
        {name: numbers(layer) for name, layer in narrow.named_modules()},
    )


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    for name, layer in network.named_modules():
        if isinstance(layer, _NormBase):
            for key in ("running_mean", "running_var"):
                if (tensor := layer._buffers.get(key)) is not None:
                    yield f"{name}.{key}", tensor


def cut(network: nn.Module, rest: Left) -> None:
    """Cuts each tensor to what is left, in place.

    Args:
        network: Like the one that was traced.
        rest: What is left.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, places in rest.places.items():
        resize(network, name, tensors[name].detach().flatten()[places.flatten()].reshape(places.shape))
    for name, layer in network.named_modules():
        for key, number in rest.numbers[name].items():
            setattr(layer, key, number)


@torch.no_grad()
def check_same(subject: Subject, dense: nn.Module, pruned: nn.Module, places: Mapping[str, Tensor]) -> None:
    """Compares the pruned network with the dense one in which all that was removed is zero.

    Both are one function if each layer loses exactly the inputs that the layer before no longer gives. If
    channels are mixed up, they differ.

    Args:
        subject: How the networks are called.
        dense: The network before; its weights become zero where something was removed.
        pruned: The network after.
        places: Numbers that are left of each tensor, as in `Left`.

    Raises:
        ValueError: If they differ, or the pruned network does not run.
    """
    tensors = {**dict(dense.named_parameters()), **dict(dense.named_buffers())}
    for name, stay in places.items():
        gone = torch.ones(tensors[name].numel(), dtype=torch.bool)
        gone[stay.flatten()] = False
        one = 1.0 if name.endswith("running_var") else 0.0
        tensors[name].view(-1)[gone] = one
    try:
        got = subject.outputs(pruned.eval())
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ValueError(
            f"{type(pruned).__name__} does not run without its least important channels ({_short(error)}): leave the layer that fails as it "
            "is, by ignore=[its name]."
        ) from error
    for wanted, given in zip(subject.outputs(dense.eval()), got, strict=True):
        scale = wanted.abs().nan_to_num().max().clamp(min=1e-6) if wanted.numel() else 1.0
        same = wanted.shape == given.shape and torch.allclose(
            wanted / scale, given / scale, rtol=0, atol=TOLERANCE, equal_nan=True
        )
        if not same:
            raise ValueError(
                f"{type(pruned).__name__} without its least important channels is another function than with these at zero, so torch-pruning "
                "has mixed up channels: leave the layers that cut, mix or normalize channels as they are, by ignore=[their names]."
            )


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
