"""Weights that peers send each other, and mixtures of them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lkd.federated.client.context import ClientContext
from lkd.federated.knowledge.common.own_checkpoints import state
from lkd.federated.protocol.tensors import Tensors, is_inexact, moved


def weights_of(context: ClientContext) -> Tensors:
    """Copies the client's parameters that train, and its float and complex buffers.

    Frozen parameters are the same at all clients.
    """
    module = context.module
    saved = module.state_dict(
        keep_vars=True
    ).keys()  # other buffers are not persistent and begin anew in every round
    weights = {n: p for n, p in module.named_parameters() if p.requires_grad}
    buffers = {n: b for n, b in module.named_buffers() if is_inexact(b) and n in saved}
    return moved({**weights, **buffers}, "cpu")


def adopt(context: ClientContext, weights: Mapping[str, Tensor]) -> None:
    """Loads parameters and buffers into the client, and keeps them for its next round."""
    tensors = state(context)
    with torch.no_grad():
        for name, value in weights.items():
            tensors[name].copy_(value)
    context.save_state = True


def combine(parts: Mapping[int, Tensors], weights: Mapping[int, float]) -> Tensors:
    """Computes `sum_j w_j x_j` over clients, in float64 and in the order of their ids.

    Args:
        parts: Tensors by client.
        weights: Weight by client; only these are summed.

    Example:
        >>> combine({0: {"w": torch.ones(1)}, 1: {"w": torch.zeros(1)}}, {0: 0.25, 1: 0.75})
        {'w': tensor([0.2500])}
    """
    first = min(weights)
    total: Tensors = {}
    for name, like in parts[first].items():
        value = torch.zeros_like(like, dtype=torch.promote_types(like.dtype, torch.float64))
        for j, weight in sorted(weights.items()):
            value += weight * parts[j][name].to(value.dtype)
        total[name] = value.to(like.dtype)
    return total


def listed(parts: Mapping[int, Tensors]) -> Tensors:
    """Puts tensors of several clients into one message, under their places in `parts`; nothing is copied."""
    return {f"{place}/{name}": t for place, of in enumerate(parts.values()) for name, t in of.items()}


def by_sender(tensors: Tensors, senders: Sequence[int]) -> dict[int, Tensors]:
    """Splits the tensors of such a message by client.

    Args:
        tensors: The tensors.
        senders: Ids of the clients, in the order of their places.

    Example:
        >>> by_sender(listed({3: {"w": torch.ones(1)}, 5: {"w": torch.zeros(1)}}), [3, 5])
        {3: {'w': tensor([1.])}, 5: {'w': tensor([0.])}}
    """
    found: dict[int, Tensors] = {j: {} for j in senders}
    for key, tensor in tensors.items():
        place, name = key.split("/", 1)
        found[senders[int(place)]][name] = tensor
    return found
