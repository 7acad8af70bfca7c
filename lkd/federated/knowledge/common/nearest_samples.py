"""The most similar samples of the same class."""

import torch
import torch.nn.functional as F
from torch import Tensor


def nearest_of_class(codes: Tensor, labels: Tensor, count: int) -> Tensor:
    """Finds, for each sample, the others of its class with the largest cosine of their codes; exact.

    Memory grows with the square of the largest class.

    Args:
        codes: `(N, D)`.
        labels: `(N,)`.
        count: Number of others, R.

    Returns:
        `(N, R)`, the nearest first, the lower number first among equals; -1 where a class has fewer.

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
        alike.fill_diagonal_(-torch.inf)  # puts the sample itself last, where it is cut off
        order = alike.argsort(dim=1, descending=True, stable=True)[:, : min(count, len(members) - 1)]
        found[members, : order.shape[1]] = members[order]
    return found


def mean_of_rows(values: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """Averages selected rows.

    Args:
        values: `(N, C)`.
        which: `(M, R)`, numbers of rows; -1 stands for none.

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
