"""Deep mutual learning: the loss of each of several networks that train together."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lkd.losses.inputs import full_precision
from lkd.losses.logit import kd_loss


def mutual_losses(logits: Sequence[Tensor], labels: Tensor, temperature: float = 1.0) -> Tensor:
    """Computes `CE(z_k, y) + 1/(K-1) Σ_{l≠k} T² KL(p_l ‖ p_k)` for each of K peers, means over the batch.

    A peer's probabilities p_l are constants in the loss of the others, so the gradient of the sum of all K
    losses with respect to one peer's weights is that of its own loss. KL is summed over the classes.

    Zhang et al.: Deep Mutual Learning, CVPR 2018, arXiv:1706.00384, Equations 5 to 8 (for K = 2 and any K),
    which have T = 1; there the terms are summed over the samples, here, as in the authors' code, averaged.
    That code adds the K - 1 divergences instead of averaging them, which is the same for two peers.

    Args:
        logits: K tensors `(B, C)`, one for each peer, at least two.
        labels: True classes `(B,)`, int64.
        temperature: T of the divergences, above 0.

    Returns:
        The K losses `(K,)`, of at least float32.

    Raises:
        ValueError: If there are fewer than two peers or classes, their shapes differ, or the temperature is
            not above 0.

    Example:
        >>> peers = [torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])]
        >>> mutual_losses(peers, torch.tensor([0]))
        tensor([1.6501, 3.6501])
    """
    peers = list(logits)
    if len(peers) < 2:
        raise ValueError(f"mutual learning needs at least 2 peers, got logits of {len(peers)}")
    losses = []
    for k, own in enumerate(peers):
        others = [kd_loss(own, other, temperature) for j, other in enumerate(peers) if j != k]
        losses.append(F.cross_entropy(full_precision(own), labels) + torch.stack(others).mean())
    return torch.stack(losses)
