"""Which samples of the same class are alike."""

import torch
import torch.nn.functional as F
from torch import Tensor


def nearest_of_class(codes: Tensor, labels: Tensor, count: int) -> Tensor:
    """For each sample, the others of its class whose codes have the largest cosine with its own; exact.

    Memory is that of the largest class squared.

    Args:
        codes: `(N, D)`.
        labels: `(N,)`.
        count: How many, R.

    Returns:
        `(N, R)`, the nearest first, of equals the one with the lower number; -1 where a class has fewer.

    Example:
        >>> codes = torch.tensor([[1.0, 0.0], [1.0, 0.2], [0.0, 1.0], [1.0, 0.0]])
        >>> nearest_of_class(codes, torch.tensor([0, 0, 0, 1]), 2).tolist()
        [[1, 2], [0, 2], [1, 0], [-1, -1]]
    """
    found = torch.full((len(codes), count), -1, dtype=torch.long)
    unit = F.normalize(codes.double().flatten(1), dim=1)
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        alike = unit[members] @ unit[members].T
        alike.fill_diagonal_(-torch.inf)  # itself comes last, and is cut off
        order = alike.argsort(dim=1, descending=True, stable=True)[:, : min(count, len(members) - 1)]
        found[members, : order.shape[1]] = members[order]
    return found


def mean_of_rows(values: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of some rows.

    Args:
        values: `(N, C)`.
        which: `(M, R)`, rows; -1 is none.

    Returns:
        Means `(M, C)`, zeros where there are no rows, and whether there are any, `(M,)`.

    Example:
        >>> mean_of_rows(torch.tensor([[2.0], [4.0]]), torch.tensor([[0, 1], [1, -1], [-1, -1]]))
        (tensor([[3.], [4.], [0.]]), tensor([ True,  True, False]))
    """
    counts = which >= 0
    total = (values[which.clamp_min(0)].double() * counts[..., None]).sum(1)
    number = counts.sum(1)
    return (total / number.clamp_min(1)[:, None]).to(values), number > 0
