"""Tensors as products of two thin matrices, where that takes fewer values."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lkd.federated.protocol.tensors import Tensors

LEFT, RIGHT = "/left", "/right"


def rank_of(singular_values: Tensor, energy: float) -> int:
    """Finds the smallest K whose first K singular values hold this share of the energy, `sum sigma_i^2`.

    Args:
        singular_values: In descending order.
        energy: Share to keep, in (0, 1]; at 1 all values that are not 0 are kept.

    Example:
        >>> values = torch.tensor([3.0, 1.0, 0.0])
        >>> rank_of(values, 0.9), rank_of(values, 0.91), rank_of(values, 1.0), rank_of(0 * values, 0.9)
        (1, 2, 2, 0)
    """
    cumulated = singular_values.double().square().cumsum(0)
    if not len(cumulated) or not cumulated[-1] > 0:
        return 0
    return int((cumulated < energy * cumulated[-1]).sum()) + 1


def compress(tensors: Mapping[str, Tensor], energy: float) -> Tensors:
    """Factors each tensor by its singular value decomposition, if that needs fewer values.

    A tensor `(P, ...)` counts as a matrix `(P, Q)`. Of its decomposition `U Sigma V^T` the first K columns
    are kept, see `rank_of`; `U Sigma (P, K)` and `V^T (K, Q)` replace the tensor if `K (P + Q) < P Q`.
    Vectors stay as they are.

    Args:
        tensors: Tensors by name.
        energy: Share of each tensor's squared norm that is kept, in (0, 1].

    Returns:
        Tensors by their names, or by `name/left` and `name/right`, in their own types.

    Example:
        >>> sent = compress({"w": torch.ones(4, 5), "b": torch.ones(4)}, 0.95)
        >>> {name: tuple(tensor.shape) for name, tensor in sent.items()}
        {'w/left': (4, 1), 'w/right': (1, 5), 'b': (4,)}
    """
    sent: Tensors = {}
    for name, tensor in tensors.items():
        found = _factors(tensor, energy) if tensor.dim() > 1 and tensor.numel() else None
        if found is None:
            sent[name] = tensor
        else:
            sent[name + LEFT], sent[name + RIGHT] = found
    return sent


def _factors(tensor: Tensor, energy: float) -> tuple[Tensor, Tensor] | None:
    matrix = tensor.detach().flatten(1)
    matrix = matrix.to(torch.promote_types(matrix.dtype, torch.float64))
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    k = rank_of(values, energy)
    if k * sum(matrix.shape) >= matrix.numel():
        return None
    return (u[:, :k] * values[:k]).to(tensor.dtype).contiguous(), v[:k].to(tensor.dtype).contiguous()


def restore(sent: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> Tensors:
    """Multiplies the factors of `compress`, and returns all tensors in their original shapes.

    Args:
        sent: Result of `compress`.
        like: Tensors with the original names and shapes.

    Raises:
        ValueError: If a name is missing, or a number of values does not match.

    Example:
        >>> whole = {"w": torch.ones(4, 5)}
        >>> torch.allclose(restore(compress(whole, 0.95), whole)["w"], whole["w"])
        True
    """
    found: Tensors = {}
    for name, shape in ((name, tensor.shape) for name, tensor in like.items()):
        if name in sent:
            tensor = sent[name]
        elif name + LEFT in sent and name + RIGHT in sent:
            left, right = sent[name + LEFT], sent[name + RIGHT]
            tensor = left @ right if left.shape[-1:] == right.shape[:1] else left
        else:
            raise ValueError(f"{name} was not sent, neither whole nor as factors.")
        if tensor.numel() != shape.numel():
            raise ValueError(f"{name} was sent with {tensor.numel()} values, but has shape {tuple(shape)}.")
        found[name] = tensor.reshape(shape)
    return found
