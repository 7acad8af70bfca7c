"""Multiply-accumulates of a network, counted the same way everywhere in `compress`."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lkd.metrics.flops import FlopCount


def macs(network: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """Multiply-accumulates of one sample (half of the FLOPs that torch's own formulas count).

    Args:
        network: Takes the inputs by position.
        inputs: One sample or more of each.

    Example:
        >>> macs(nn.Linear(3, 2), {"x": torch.zeros(5, 3)})
        6
    """
    with torch.no_grad(), FlopCount() as count:
        network(*(tensor[:1] for tensor in inputs.values()))
    return count.total // 2
