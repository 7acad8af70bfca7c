"""Directions of vectors, with gradients that stay finite at zero."""

import torch
from torch import Tensor


def unit(vectors: Tensor, shortest: float = 1e-12) -> Tensor:
    """Scales the last dimension to length 1; vectors not longer than `shortest` become 0 without gradient.

    Args:
        vectors: Vectors `(..., D)` in float32 or float64.
        shortest: Length up to which a vector has no direction.

    Returns:
        Vectors of length 1 or 0, `(..., D)`.

    Example:
        >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    square = vectors.square().sum(-1, keepdim=True)
    long = square > shortest**2
    # The inner `where` matters: 1/sqrt(0) in the branch not taken would still turn the gradient into NaN.
    return torch.where(long, vectors * torch.where(long, square, 1.0).rsqrt(), 0.0)


def gram(left: Tensor, right: Tensor) -> Tensor:
    """Multiplies `left (..., N, D)` by the transpose of `right (..., M, D)`, never in half precision.

    Example:
        >>> with torch.autocast("cpu", dtype=torch.bfloat16):
        ...     gram(torch.eye(2), torch.ones(3, 2)).dtype
        torch.float32
    """
    with torch.autocast(left.device.type, enabled=False):  # autocast would multiply in half precision
        return left @ right.mT


def cosines(vectors: Tensor) -> Tensor:
    """Returns the cosines between all vectors `(B, D)` of a batch, `(B, B)`; 0 where one has no direction.

    Raises:
        ValueError: If D is 1.

    Example:
        >>> cosines(torch.tensor([[2.0, 0.0], [-1.0, 0.0]]))
        tensor([[ 1., -1.],
                [-1.,  1.]])
    """
    require_directions(vectors)
    directions = unit(vectors)
    return gram(directions, directions)


def require_directions(vectors: Tensor) -> None:
    """Checks that vectors have several numbers, as the cosines of single numbers are 1 or -1.

    Raises ValueError else.

    Example:
        >>> require_directions(torch.zeros(3, 2))
    """
    if vectors.shape[-1] < 2:
        raise ValueError(
            f"samples of one number {tuple(vectors.shape)} have no direction that a loss on cosines could compare: name a layer "
            "that gives at least two features"
        )
