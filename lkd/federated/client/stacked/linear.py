"""Linear layers of a stack, multiplied such that each gradient lies in memory as its weight does."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode


class StackedLinear(TorchFunctionMode):
    """Computes `linear` under `torch.func.vmap` as `(W x^T)^T + b` where each client has its own W.

    As `x W^T`, the gradient of W comes out transposed, and to turn that around takes longer than to compute it: the
    weights of all clients do not fit into a processor's cache.

    Example:
        >>> layers, x = torch.randn(3, 2, 4), torch.randn(3, 5, 4)
        >>> with StackedLinear():
        ...     found = torch.func.vmap(linear)(x, layers)
        >>> torch.allclose(found, x @ layers.mT, atol=1e-6)
        True
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replaces one function, and calls all others."""
        if func is linear and not kwargs and _own_weight(*args):
            x, weight, *bias = args
            found = torch.matmul(
                weight, x.mT
            ).mT.contiguous()  # modules view what a layer gives in other shapes
            return found if not bias or bias[0] is None else found + bias[0]
        return func(*args, **(kwargs or {}))


def _own_weight(x: Any, weight: Any, bias: Any = None) -> bool:
    """Tells whether each client has a weight of its own, for a batch of vectors."""
    return (
        isinstance(x, Tensor)
        and isinstance(weight, Tensor)
        and x.dim() == 2
        and weight.dim() == 2
        and torch._C._functorch.is_batchedtensor(weight)
    )
