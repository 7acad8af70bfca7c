"""Training steps of a client's model on other losses than the module's own."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lkd.federated.client.checks import require_descent
from lkd.federated.client.single_samples import watching

LONE = "a step on public or generated samples has a batch of one"
"""What is wrong with a batch of one sample, where a layer normalizes over the batch."""
OTHER = "training on another loss than the module's own"
"""What needs an optimizer that goes down."""


def minimize(
    module: LightningModule,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Any],
    loss: Callable[[Any], Tensor],
    trainer: Trainer,
    clip: float | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> int:
    """Makes an optimizer step per batch on another loss than the module's own; none of its hooks run.

    Args:
        module: The module that trains; it is set to train mode.
        optimizer: Optimizer of its parameters.
        batches: Batches on the module's device.
        loss: Computes the loss of a batch.
        trainer: The Trainer, whose precision is used.
        clip: Largest norm of a gradient; None for no clipping.
        scheduler: Stepped after every step.

    Returns:
        Number of steps.

    Raises:
        RefusalError: If the optimizer climbs.
    """
    require_descent(OTHER, optimizer)
    scales = getattr(trainer.precision_plugin, "scaler", None) is not None
    scaler = torch.amp.GradScaler(module.device.type, enabled=scales)
    module.train()
    steps = 0
    with watching(module, LONE):
        for batch in batches:
            module.zero_grad()  # also of parameters that the optimizer does not have
            with trainer.precision_plugin.forward_context():
                value = loss(batch)
            scaler.scale(value).backward()
            if clip is not None:
                scaler.unscale_(optimizer)
                trained = [p for group in optimizer.param_groups for p in group["params"]]
                torch.nn.utils.clip_grad_norm_(trained, clip)
            scaler.step(optimizer)
            scaler.update()
            if scheduler is not None:
                scheduler.step()
            steps += 1
    module.zero_grad()
    return steps
