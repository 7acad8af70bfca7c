"""Tensors of a shared model, a layer of the clients' modules that is the same in all of them."""

import torch
from lightning.pytorch import LightningModule

from lkd.federated.protocol.tensor_names import matches
from lkd.federated.protocol.tensors import Tensors, is_inexact


def tensors_of(module: LightningModule, layer: str) -> Tensors:
    """Returns the trainable parameters and float buffers of a layer, live, by their names in the module."""
    found: Tensors = {n: p for n, p in module.named_parameters() if p.requires_grad and matches(n, [layer])}
    found |= {n: b for n, b in module.named_buffers() if is_inexact(b) and matches(n, [layer])}
    return found


def plus(x: Tensors, change: Tensors) -> Tensors:
    """Adds changes to tensors, by name."""
    return {name: tensor + change[name] for name, tensor in x.items()}


@torch.no_grad()
def assign(tensors: Tensors, values: Tensors) -> None:
    """Copies values into tensors, by name."""
    for name, tensor in tensors.items():
        tensor.copy_(values[name])


def check_alike(models: list[Tensors], layer: str) -> None:
    """Refuses shared models with different tensors.

    Raises:
        ValueError: If there are any, or one has no parameter; the message names the first difference.
    """
    for kind, tensors in enumerate(models):
        if not tensors:
            raise ValueError(f"shared={layer!r}: this layer has no parameter to share.")
        shapes, first = ({n: tuple(t.shape) for n, t in each.items()} for each in (tensors, models[0]))
        wrong = sorted(n for n in shapes.keys() | first.keys() if shapes.get(n) != first.get(n))
        if wrong:
            raise ValueError(
                f"{wrong[0]} of other_models[{kind - 1}] is {shapes.get(wrong[0])}, of model {first.get(wrong[0])}: the shared "
                "model must be the same in all architectures."
            )
