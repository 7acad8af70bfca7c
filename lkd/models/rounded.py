"""A sender's rounding of a tensor, in training, with gradients that ignore it."""

import torch
from torch import Tensor


def rounded(x: Tensor, bits: int) -> Tensor:
    """Rounds each sample to `2**bits` levels between its smallest and largest number, as in `offload`.

    The gradient passes straight through. Bengio, Leonard and Courville: Estimating or Propagating Gradients
    Through Stochastic Neurons for Conditional Computation, arXiv:1308.3432, Section 4.

    Args:
        x: Tensor `(B, ...)`.
        bits: Bits of each number, 1 to 8.

    Raises:
        ValueError: For another number of bits.

    Example:
        >>> x = torch.tensor([[0.0, 0.4, 3.0]], requires_grad=True)
        >>> y = rounded(x, bits=2)
        >>> y.sum().backward()
        >>> y.tolist(), x.grad.tolist()
        ([[0.0, 0.0, 3.0]], [[1.0, 1.0, 1.0]])
    """
    if not 1 <= bits <= 8:
        raise ValueError(f"bits={bits} must be from 1 to 8, or None for no rounding.")
    with torch.no_grad():
        low, high = (end.view(-1, *[1] * (x.ndim - 1)) for end in x.flatten(1).aminmax(dim=1))
        step = (high - low) / (2**bits - 1)
        arrived = low + ((x - low) / step.where(step > 0, 1.0)).round() * step
    return arrived + (x - x.detach())
