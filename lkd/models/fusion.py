"""Fusion of embeddings of several modalities into one, whichever of them a sample has.

Every fusion maps embeddings `(B, M, D)` and `present (B, M)`, true where a sample has a modality, to `(B,
D)`. Values of embeddings where nothing is present, NaN included, change neither the result nor a gradient.
Parameters of one modality have its name, so that networks of different modalities can be averaged layer by
layer.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Fusion = Literal["late", "mean", "concat", "gated", "attention"]


def make_fusion(fusion: Fusion, modalities: Sequence[str], dim: int) -> nn.Module:
    """Makes the fusion of that name.

    Args:
        fusion: `"late"` and `"mean"`: `MeanFusion`; `"concat"`, `"gated"` and `"attention"`: the class of
            that name.
        modalities: Names of the modalities, in their order.
        dim: Size D of the embeddings.

    Raises:
        ValueError: For another name.

    Example:
        >>> make_fusion("mean", ["a", "b"], 4)
        MeanFusion()
    """
    match fusion:
        case "late" | "mean":
            return MeanFusion()
        case "concat":
            return ConcatFusion(modalities, dim)
        case "gated":
            return GatedFusion(modalities, dim)
        case "attention":
            return AttentionFusion(modalities, dim)
    raise ValueError(
        f"fusion={fusion!r} must be one of {', '.join(map(repr, get_args(Fusion)))}, or a module that maps embeddings "
        "(B, M, D) and present (B, M) to (B, D)."
    )


def zeroed(embeddings: Tensor, present: Tensor) -> Tensor:
    """Returns embeddings `(B, M, D)` with zeros where nothing is present `(B, M)`.

    No gradient flows through these.

    Example:
        >>> zeroed(torch.tensor([[[1.0], [torch.nan]]]), torch.tensor([[True, False]])).tolist()
        [[[1.0], [0.0]]]
    """
    return torch.where(present.unsqueeze(-1), embeddings, embeddings.new_zeros(()))


class MeanFusion(nn.Module):
    """The mean over the modalities that are present; it can fuse logits `(B, M, K)` as well.

    Example:
        >>> embeddings = torch.tensor([[[1.0], [3.0]], [[1.0], [3.0]]])
        >>> MeanFusion()(embeddings, torch.tensor([[True, True], [True, False]])).tolist()
        [[2.0], [1.0]]
    """

    def forward(self, embeddings: Tensor, present: Tensor) -> Tensor:
        """Maps `(B, M, D)` and `(B, M)` to `(B, D)`."""
        return zeroed(embeddings, present).sum(1) / present.sum(1, keepdim=True)


class ConcatFusion(nn.Module):
    """A hidden layer over all embeddings, zeros where absent, and the mask itself; then a linear layer.

    `W relu(b + sum_m A_m [z_m, present_m]) + c`: the hidden layer over the concatenation `[z_1, ..., z_M,
    present]` is the sum of a block for each modality, `blocks.<name>` `(D, D + 1)`. Without the mask, an
    absent modality would look like one whose embedding is zero.

    Args:
        modalities: Names of the modalities, in their order.
        dim: Size D of the embeddings, and width of the hidden layer.

    Example:
        >>> fuse = ConcatFusion(["a", "b"], dim=4)
        >>> fuse(torch.zeros(3, 2, 4), torch.ones(3, 2, dtype=torch.bool)).shape
        torch.Size([3, 4])
    """

    def __init__(self, modalities: Sequence[str], dim: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict({name: nn.Linear(dim + 1, dim, bias=False) for name in modalities})
        self.bias = nn.Parameter(torch.zeros(dim))
        self.out = nn.Linear(dim, dim)

    def forward(self, embeddings: Tensor, present: Tensor) -> Tensor:
        """Maps `(B, M, D)` and `(B, M)` to `(B, D)`."""
        both = torch.cat([zeroed(embeddings, present), present.unsqueeze(-1).to(embeddings)], 2)
        parts = [block(both[:, m]) for m, block in enumerate(self.blocks.values())]
        return self.out(F.relu(torch.stack(parts).sum(0) + self.bias))


class GatedFusion(nn.Module):
    """A weighted mean, with weights from a softmax over the present modalities of a score of each embedding.

    `sum_m g_m z_m`, `g = softmax over present m of (a_m . z_m + b_m)`; scores are `gates.<name>`.

    Args:
        modalities: Names of the modalities, in their order.
        dim: Size D of the embeddings.

    Example:
        >>> fuse = GatedFusion(["a", "b"], dim=4)
        >>> fuse.weights(torch.zeros(1, 2, 4), torch.tensor([[True, False]])).tolist()
        [[1.0, 0.0]]
    """

    def __init__(self, modalities: Sequence[str], dim: int) -> None:
        super().__init__()
        self.gates = nn.ModuleDict({name: nn.Linear(dim, 1) for name in modalities})

    def weights(self, embeddings: Tensor, present: Tensor) -> Tensor:
        """Returns the gates `(B, M)`, 0 where absent; each row adds up to 1."""
        known = zeroed(embeddings, present)
        scores = torch.cat([gate(known[:, m]) for m, gate in enumerate(self.gates.values())], 1)
        return scores.float().masked_fill(~present, float("-inf")).softmax(1)

    def forward(self, embeddings: Tensor, present: Tensor) -> Tensor:
        """Maps `(B, M, D)` and `(B, M)` to `(B, D)`."""
        return (self.weights(embeddings, present).unsqueeze(-1) * zeroed(embeddings, present)).sum(1)


class AttentionFusion(nn.Module):
    """A learned query attends to the modalities that are present, each marked by a learned token.

    Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762, Section 3.2.2) of one query over keys and
    values `z_m + t_m`; tokens are `tokens.<name>`.

    Args:
        modalities: Names of the modalities, in their order.
        dim: Size D of the embeddings.
        heads: Number of heads of the attention; it must divide D. Default: 4 if it does, else 1.

    Raises:
        ValueError: If the number of heads does not divide D.

    Example:
        >>> fuse = AttentionFusion(["a", "b"], dim=4)
        >>> fuse(torch.zeros(3, 2, 4), torch.ones(3, 2, dtype=torch.bool)).shape
        torch.Size([3, 4])
    """

    def __init__(self, modalities: Sequence[str], dim: int, heads: int | None = None) -> None:
        super().__init__()
        heads = (4 if dim % 4 == 0 else 1) if heads is None else heads
        if heads < 1 or dim % heads:
            raise ValueError(f"heads={heads} must divide the size of the embedding, {dim}.")
        self.modalities = tuple(modalities)
        self.tokens = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(dim)) for name in modalities})
        self.query = nn.Parameter(0.02 * torch.randn(dim))
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, embeddings: Tensor, present: Tensor) -> Tensor:
        """Maps `(B, M, D)` and `(B, M)` to `(B, D)`."""
        tokens = torch.stack([self.tokens[name] for name in self.modalities])  # the dict sorts its names
        values = zeroed(embeddings, present) + tokens
        query = self.query.expand(values.shape[0], 1, -1)  # an export would take len() for a constant
        fused, _ = self.attention(query, values, values, key_padding_mask=~present, need_weights=False)
        return fused.squeeze(1)
