"""Cost of a part of a network for one sample: multiply-accumulates, and time on this machine."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lkd.edge.offload.source import timed
from lkd.metrics.flops import FlopCount

WARM_UP, RUNS = 5, 50


class Work(NamedTuple):
    """`macs`, multiply-accumulates; `ms`, the median time of one sample in PyTorch, see `timed`."""

    macs: float
    ms: float

    def __add__(self, other: object) -> "Work":
        """Returns the work of both, one after the other."""
        if not isinstance(other, Work):
            return NotImplemented
        return Work(self.macs + other.macs, self.ms + other.ms)


@torch.no_grad()
def work(function: Callable[[Tensor], object], sample: Tensor) -> Work:
    """Counts and times a function of one sample.

    Args:
        function: Function that calls modules, whose MACs are counted.
        sample: `(1, ...)`.

    Example:
        >>> work(torch.nn.Linear(3, 2), torch.zeros(1, 3)).macs
        6.0
    """
    with FlopCount() as count:
        function(sample)
    for _ in range(WARM_UP):
        function(sample)
    taken = [timed(lambda: function(sample))[1] for _ in range(RUNS)]
    return Work(count.total / 2, float(np.median(taken)))
