"""Spectral norms after averaging over clients."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

ITERATIONS = 15  # torch's own number of first iterations


@torch.no_grad()
def settle(module: nn.Module) -> None:
    """Makes spectral norms find the singular vectors of their averaged weights.

    A spectral norm keeps estimates of two unit vectors in buffers, and divides by `u^T W v`. The mean of the
    clients' vectors is shorter than 1, and fits no weights. Eval mode does not improve the estimates, so the
    norm would be too small.

    Args:
        module: Module with layers of `nn.utils.parametrizations.spectral_norm` or `nn.utils.spectral_norm`.

    Example:
        >>> layer = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)).eval()
        >>> _ = layer.parametrizations.weight[0]._u.mul_(0.5)  # as a mean would
        >>> settle(layer)
        >>> round(float(torch.linalg.matrix_norm(layer.weight, 2)), 2)
        1.0
    """
    for part in module.modules():
        named: Any = part.parametrizations if parametrize.is_parametrized(part) else {}
        for name, steps in named.items():
            for norm in [step for step in steps if isinstance(step, _SpectralNorm)]:
                training = norm.training
                norm.train()
                for _ in range(ITERATIONS):
                    getattr(part, name)
                norm.train(training)
        for hook in part._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                for _ in range(ITERATIONS):
                    hook.compute_weight(part, do_power_iteration=True)
