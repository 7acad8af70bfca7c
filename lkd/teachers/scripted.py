"""Scripted, traced and exported modules: their mode may be fixed, and their layers cannot be tapped."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from lkd.addresses import find_layer


def require_eval(model: nn.Module) -> None:
    """Puts a model into eval mode.

    Raises:
        ValueError: If it was traced in training mode, or exported: both fix the mode.

    Example:
        >>> net = nn.Dropout()
        >>> require_eval(net)
        >>> net.training
        False
    """
    try:
        model.eval()
    except NotImplementedError as error:
        raise ValueError(
            f"model={type(model).__name__} was made by torch.export, which fixes whether it trains; give the module that was "
            "exported, or a callable around this one if that was in eval mode: lambda x: exported(x)."
        ) from error
    for module in model.modules():
        if isinstance(module, torch.jit.TopLevelTracedModule) and _trains(module):
            raise ValueError(
                "model was traced in training mode, which its dropout or batch normalization keeps for good: trace it again "
                "after model.eval()."
            )


def require_layers(model: nn.Module, layers: Iterable[str]) -> None:
    """Raises ValueError if a layer is scripted, since its output cannot be seen from outside."""
    for layer in layers:
        if isinstance(find_layer(model, layer, "teacher_layer"), torch.jit.ScriptModule):
            raise ValueError(
                f"teacher_layer={layer!r} is scripted, so that its output cannot be recorded; take the output of the whole, "
                "teacher_layer='', or give the module that was scripted."
            )


def _trains(traced: torch.jit.TopLevelTracedModule) -> bool:
    kinds = {"aten::dropout": "train", "aten::feature_dropout": "train", "aten::batch_norm": "training"}
    graph: Any = traced.inlined_graph  # kept, since its nodes live only as long as it does
    return any(
        node.namedInput(flag).toIValue() for kind, flag in kinds.items() for node in graph.findAllNodes(kind)
    )
