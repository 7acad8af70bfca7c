"""What a part of a network costs for one sample: multiply-accumulates, and time on this machine."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lkd.edge.offload.source import timed
from lkd.metrics.flops import FlopCount

WARM_UP, RUNS = 5, 50


class Work(NamedTuple):
    """`macs`, multiply-accumulates; `ms`, the median time in PyTorch of one sample, with as many threads as it has now."""

    macs: float
    ms: float

    def __add__(self, other: object) -> "Work":
        """Both, one after the other."""
        if not isinstance(other, Work):
            return NotImplemented
        return Work(self.macs + other.macs, self.ms + other.ms)


@torch.no_grad()
def work(function: Callable[[Tensor], object], sample: Tensor) -> Work:
    """Counts and times a function of one sample.

    Args:
        function: Calls modules, whose MACs are counted.
        sample: `(1, ...)`.

    Example:
        >>> work(torch.nn.Linear(3, 2), torch.zeros(1, 3)).macs
        6.0
    """
    with FlopCount() as count:
        function(sample)
    taken = []
    for run in range(WARM_UP + RUNS):
        _, ms = timed(lambda: function(sample))
        if run >= WARM_UP:
            taken.append(ms)
    return Work(count.total / 2, float(np.median(taken)))
