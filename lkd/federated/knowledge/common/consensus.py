"""One answer from what several models say of the same samples."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lkd.federated.server.aggregation import ClientReply
from lkd.federated.server.robust import Rule

Of = Literal["logits", "probabilities"]


def stacked(told: Sequence[ClientReply], name: str) -> Tensor:
    """Stacks one tensor of every client, `(K, ...)`, in float64 so that sums depend less on their order.

    Args:
        told: Replies of the clients.
        name: Name of the tensor in each reply.

    Raises:
        ValueError: If the clients' tensors have different shapes.
    """
    shapes = {tuple(t.knowledge[name].shape): t.client for t in told}
    if len(shapes) > 1:
        (one, a), (other, b), *_ = shapes.items()
        raise ValueError(
            f"{name} of client {a} is {one}, of client {b} {other}: clients that exchange it must have the same classes (or "
            "the same embedding size), in the same order; give their modules heads (projections) of one size."
        )
    return torch.stack([t.knowledge[name] for t in told]).double()


def consensus(
    logits: Tensor,
    of: Of = "probabilities",
    temperature: float = 1.0,
    weights: Tensor | None = None,
    rule: Rule | None = None,
) -> Tensor:
    """Averages what models say: their softmax, or their raw logits.

    A model with large logits outweighs all others in a mean of logits, which is why probabilities are the
    default.

    Args:
        logits: `(K, N, C)`, one row per model.
        of: What is averaged.
        temperature: Temperature of the softmax.
        weights: `(K,)`, or `(K, N)` with weights of each sample. Default: all the same.
        rule: A robust rule in place of the mean; its probabilities are normalized to a sum of 1.

    Returns:
        `(N, C)`: probabilities, or logits.

    Example:
        >>> consensus(torch.tensor([[[0.0, 0.0]], [[0.0, 50.0]]]))
        tensor([[0.2500, 0.7500]])
    """
    values = logits if of == "logits" else (logits / temperature).softmax(-1)
    if rule is not None:
        joined = rule(values.flatten(1)).view_as(values[0])
        if of == "probabilities":
            joined = joined.clamp_min(0)
            joined = joined / joined.sum(-1, keepdim=True).clamp_min(1e-12)
        return joined
    if weights is None:
        return values.mean(0)
    weights = weights.to(values)[(...,) + (None,) * (values.dim() - weights.dim())]
    return (weights * values).sum(0) / weights.sum(0)
