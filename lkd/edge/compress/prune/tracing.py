"""Limits for torch-pruning, which keep it to layers that it understands."""

import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lkd.edge.extra import optional

MOST_STEPS, MOST_CHANNELS = 50_000, 500_000
"""Most steps and channels of one group; no network that can be pruned has more."""


def attentions(network: nn.Module) -> Iterator[tuple[nn.Module, Any]]:
    """Yields attention of timm's kind with its `qkv`: equal heads, no weights but in `qkv` and `proj`."""
    for layer in network.modules():
        qkv, proj, heads = (getattr(layer, name, None) for name in ("qkv", "proj", "num_heads"))
        if not (isinstance(qkv, nn.Linear) and isinstance(proj, nn.Linear) and type(heads) is int):
            continue
        inside = sum(1 for _ in layer.parameters()) == sum(
            1 for part in (qkv, proj) for _ in part.parameters()
        )
        if inside and getattr(layer, "attn_dim", None) == proj.in_features == qkv.out_features // 3:
            yield qkv, layer


@contextmanager
def opaque(layers: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """Hides layers from tracing inside the block.

    Notes their inputs, whose channels must stay like those of outputs.
    """
    ends, layers = list[Tensor](), list(layers)

    def closed(inner: Any, *args: Any, **kwargs: Any) -> Any:
        ends.extend(
            one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor) and one.requires_grad
        )
        with torch.no_grad():
            return inner(*args, **kwargs)

    for layer in layers:
        vars(layer)["forward"] = functools.partial(closed, layer.forward)
    try:
        yield ends
    finally:
        for layer in layers:
            del vars(layer)["forward"]


@contextmanager
def frozen() -> Iterator[None]:
    """Stops torch-pruning inside the block from updating channels of operations, and from endless loops.

    Nothing may be pruned inside. Loops come from channels that are reshaped and come back, and they grow.
    """
    kind = optional("torch_pruning.dependency.group").Group
    mapping = optional("torch_pruning.dependency.index_mapping")
    update = mapping.update_index_mapping
    add = kind.add_dep

    def bounded(group: Any, dep: Any, idxs: Any) -> None:
        if len(group) > MOST_STEPS or len(idxs) > MOST_CHANNELS:
            raise RuntimeError("they are reshaped in a way that torch-pruning does not understand")
        add(group, dep, idxs)

    kind.add_dep, mapping.update_index_mapping = bounded, lambda graph: None
    try:
        yield
    finally:
        kind.add_dep, mapping.update_index_mapping = add, update
