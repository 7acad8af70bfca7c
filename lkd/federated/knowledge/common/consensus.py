"""How what several models say of the same samples becomes one answer."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lkd.federated.server.aggregation import ClientReply
from lkd.federated.server.robust import Rule

Of = Literal["logits", "probabilities"]


def stacked(told: Sequence[ClientReply], name: str) -> Tensor:
    """One tensor of every client, `(K, ...)`, in float64 so that sums depend less on their order.

    Raises:
        ValueError: If clients tell tensors of different shapes.
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
    """The average of what models say: of their softmax, or of their raw logits.

    One model whose logits are large outweighs all others in a mean of logits, which is why probabilities are the
    default.

    Args:
        logits: `(K, N, C)`, a model a row.
        of: What is averaged.
        temperature: Of the softmax.
        weights: `(K,)`, or `(K, N)` for each sample its own. Default: all the same.
        rule: A robust rule in place of the mean; its probabilities are made to add up to 1 again.

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
