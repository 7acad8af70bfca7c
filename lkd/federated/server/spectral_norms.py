"""Spectral norms after a mean over clients."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

ITERATIONS = 15  # as many as torch makes at first


@torch.no_grad()
def settle(module: nn.Module) -> None:
    """Lets spectral norms find the singular vectors of their averaged weights.

    They keep estimates of two unit vectors in buffers, and divide by `u^T W v`. The mean of the clients' vectors has not length
    1, and belongs to no weights; in eval mode, where they are not improved, the norm would be too small.

    Args:
        module: Whose layers; those of `nn.utils.parametrizations.spectral_norm` and of `nn.utils.spectral_norm`.

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
