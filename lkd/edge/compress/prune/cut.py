"""Takes channels out of a module, and makes sure that nothing else was taken."""

from collections.abc import Mapping

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lkd.edge.compress.prune.graph import Traced
from lkd.edge.compress.prune.subject import Subject
from lkd.pruned import NUMBERS, resize

TOLERANCE = 0.001
"""Largest difference between a network without channels and one in which they are zero, as a share of the largest output."""


def cut(network: nn.Module, traced: Traced, left: Mapping[str, Tensor]) -> None:
    """Leaves of each tensor what is left, in place.

    Args:
        network: Like the one that was traced.
        traced: Whose widths it gets.
        left: See `Traced.left`.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, places in left.items():
        resize(network, name, tensors[name].detach().flatten()[places.flatten()].reshape(places.shape))
    narrow = dict(traced.network.named_modules())
    for name, layer in network.named_modules():
        for key in NUMBERS & vars(layer).keys():
            setattr(layer, key, getattr(narrow[name], key))


@torch.no_grad()
def check_same(subject: Subject, dense: nn.Module, pruned: nn.Module, left: Mapping[str, Tensor]) -> None:
    """Compares the pruned network with the dense one in which all that went is zero. They are one function, if what went in one
    layer is what the next one no longer takes; where channels are mixed up the two differ.

    Args:
        subject: How they are called.
        dense: The network before; its weights become zero where something went.
        pruned: After.
        left: See `Traced.left`.

    Raises:
        ValueError: If they differ; the first layers that do are named.
    """
    tensors = {**dict(dense.named_parameters()), **dict(dense.named_buffers())}
    for name, places in left.items():
        gone = torch.ones(tensors[name].numel(), dtype=torch.bool)
        gone[places.flatten()] = False
        one = 1.0 if name.endswith("running_var") else 0.0
        tensors[name].view(-1)[gone] = one
    try:
        got = subject.outputs(pruned.eval())
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ValueError(
            f"{type(pruned).__name__} does not run without its least important channels ({_short(error)}): leave the layer that fails as it "
            "is, by ignore=[its name]."
        ) from error
    for wanted, given in zip(subject.outputs(dense.eval()), got, strict=True):
        scale = wanted.abs().nan_to_num().max().clamp(min=1e-6) if wanted.numel() else 1.0
        same = wanted.shape == given.shape and torch.allclose(
            wanted / scale, given / scale, rtol=0, atol=TOLERANCE, equal_nan=True
        )
        if not same:
            raise ValueError(
                f"{type(pruned).__name__} without its least important channels is another function than with these at zero, so torch-pruning "
                "has mixed up channels: leave the layers that cut, mix or normalise channels as they are, by ignore=[their names]."
            )


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
