"""Importance of each weight: how much the loss would change without it, or its size."""

import inspect
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from lkd.batches import LABELS
from lkd.distillation.own_call import own_call
from lkd.distillation.own_losses import loss_of, silent
from lkd.modules import Detector

Importance = Literal["taylor", "l2"]
SURE = 0.25
"""Score from which on a detector's own box is a label, where there are no labels."""


def saliency(module: LightningModule, importance: Importance, batches: Sequence[Any]) -> dict[str, Tensor]:
    """Returns for each parameter, by its name, a number of 0 or more for each weight.

    `"taylor"`: the mean over batches of |w dL/dw|, the first order of the change of the loss without the
    weight (Molchanov et al. 2019, arXiv:1906.10771, Eq. 8, summed by weight). L is the module's own loss on
    labels. Without labels, L is the loss on its own answers: a detector's confident boxes, a classifier's
    likeliest class, else the mean square of its outputs. In eval mode, so that batch statistics are fixed and
    nothing is drawn. `"l2"`: w^2.

    Args:
        module: The module, which is left in eval mode, without gradients.
        importance: `"taylor"` or `"l2"`.
        batches: Batches of the training data, on the CPU.

    Raises:
        ValueError: If a gradient is not finite, or none reaches the weights.
    """
    named = dict(module.named_parameters())
    if importance == "l2":
        return {name: parameter.detach().square() for name, parameter in named.items()}
    module.eval()
    learns = {name: parameter.requires_grad for name, parameter in named.items()}
    total = {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    try:
        for parameter in named.values():
            parameter.requires_grad_(parameter.is_floating_point())
        for batch in batches:
            module.zero_grad(set_to_none=True)
            with torch.enable_grad(), silent(module):
                _loss(module, batch).backward()
            for name, parameter in named.items():
                if parameter.grad is not None:
                    total[name] += (parameter.detach() * parameter.grad).abs() / len(batches)
    finally:
        module.zero_grad(set_to_none=True)
        for name, parameter in named.items():
            parameter.requires_grad_(learns[name])
    summed = torch.stack([values.sum() for values in total.values()]).sum()
    if not torch.isfinite(summed) or not summed > 0:
        what = "is not finite" if not torch.isfinite(summed) else "reaches no weight"
        raise ValueError(
            f"importance='taylor': the gradient of {type(module).__name__}'s loss {what}, so nothing tells which channels matter; look "
            "at the training data and the checkpoint, or take importance='l2'."
        )
    return total


def _loss(module: LightningModule, batch: Any) -> Tensor:
    labeled = isinstance(batch, dict) and any(key in batch for key in LABELS)
    labeled = labeled or (isinstance(batch, list | tuple) and len(batch) > 1)
    if isinstance(module, Detector) and not labeled:
        found = module.detect(batch["images"], batch.get("cameras"))
        sure = [one["scores"].detach() >= SURE for one in found]
        targets = [
            {key: one[key][keep].detach() for key in ("boxes", "labels")}
            for one, keep in zip(found, sure, strict=True)
        ]
        batch, labeled = {**batch, "targets": targets}, True
    if labeled:
        args = (0,) if len(inspect.signature(module.training_step).parameters) > 1 else ()
        loss: Tensor = loss_of(module.training_step(batch, *args))
        return loss
    call = own_call(module, batch)
    given = module(*call.args, **call.kwargs)
    if isinstance(given, Tensor) and given.ndim == 2 and given.shape[1] > 1:
        return F.cross_entropy(given, given.detach().argmax(1))
    outputs = [
        one for one in torch.utils._pytree.tree_leaves(given) if isinstance(one, Tensor) and one.requires_grad
    ]
    return torch.stack([one.square().mean() for one in outputs]).sum()
