"""The server's optimizer: one step of it is a round, and its gradient the negative change of the weights."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer

from lkd.federated.tensors import Tensors


def configure_server(
    modules: Sequence[torch.nn.Module], optimizer: OptimizerCallable, scheduler: LRSchedulerCallable | None
) -> Any:
    """What `configure_optimizers` returns, over the trainable parameters of all architectures.

    Args:
        modules: One for each architecture.
        optimizer: Makes the optimizer.
        scheduler: Makes its scheduler, which counts rounds. None: constant.

    Raises:
        ValueError: If nothing trains, or the scheduler waits for a metric.
    """
    trained = [p for module in modules for p in module.parameters() if p.requires_grad]
    if not trained:
        raise ValueError(f"{type(modules[0]).__name__} has no parameter to train: all are frozen.")
    made = optimizer(trained)
    if scheduler is None:
        return made
    schedule = scheduler(made)
    if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise ValueError(
            "server_scheduler=ReduceLROnPlateau waits for a metric, but the server's scheduler counts rounds: use "
            "another one."
        )
    return {"optimizer": made, "lr_scheduler": {"scheduler": schedule}}


def server_step(module: LightningModule, parameters: Tensors, delta: Tensors, absent: set[str]) -> None:
    """One step of the optimizer and of its scheduler.

    Args:
        module: Whose optimizer it is, with a Trainer.
        parameters: The server's shared parameters by name.
        delta: The change of each.
        absent: Names of those that no client of the round had: an architecture without a client has no gradient, so that
            momentum does not move it.
    """
    scaler = getattr(module.trainer.precision_plugin, "scaler", None)
    for name, change in delta.items():
        if name in absent and not change.any():
            continue
        # fp16's scaler will divide what it never multiplied; a power of two, so this is exact
        parameters[name].grad = -change if scaler is None else scaler.scale(-change)
    optimizer = cast(LightningOptimizer, module.optimizers())
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    scheduler = module.lr_schedulers()
    if scheduler is not None:
        cast(Any, scheduler).step()
