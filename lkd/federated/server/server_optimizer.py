"""The server's optimizer: one step is a round, and its gradient is the negative change of the weights."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from lkd.federated.protocol.tensors import Tensors, all_finite, laid_like


def configure_server(
    modules: Sequence[torch.nn.Module], optimizer: OptimizerCallable, scheduler: LRSchedulerCallable | None
) -> Any:
    """Builds the result of `configure_optimizers`, over the trainable parameters of all architectures.

    Args:
        modules: The modules, one for each architecture.
        optimizer: Creates the optimizer.
        scheduler: Creates its scheduler, which counts rounds. None: constant rate.

    Raises:
        ValueError: If no parameter trains, or the scheduler waits for a metric.
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


def server_step(
    module: LightningModule, parameters: Tensors, delta: Tensors, buffers: Tensors, absent: set[str]
) -> None:
    """Makes a step of the optimizer and of its scheduler; weights that are not finite stop the run.

    Args:
        module: The module of the optimizer, with a Trainer.
        parameters: The server's shared parameters by name.
        delta: The change of each.
        buffers: The new buffers, which are checked, too.
        absent: Names of the weights that no client of the round had. They have no gradient, so that momentum
            does not move them.

    Raises:
        SpoiledModelError: If change, buffers or new weights are not finite.
    """
    index = module.global_step
    _check(index, "what the clients' replies were joined to", [*delta.values(), *buffers.values()])
    scaler = getattr(module.trainer.precision_plugin, "scaler", None)
    for name, change in delta.items():
        if name in absent and not change.any():
            continue
        # fp16's scaler will divide by a power of two, so multiplying by it here is exact
        gradient = -change if scaler is None else scaler.scale(-change)
        parameters[name].grad = laid_like(gradient, parameters[name])
    optimizer = cast(LightningOptimizer, module.optimizers())
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    _check(index, f"what {type(optimizer.optimizer).__name__} made of it", parameters.values())
    scheduler = module.lr_schedulers()
    if scheduler is not None:
        cast(Any, scheduler).step()


class SpoiledModelError(FloatingPointError):
    """Error for a round that would leave a server's model that is not finite."""


def _check(index: int, what: str, tensors: Iterable[Tensor]) -> None:
    """Stops the run while the last checkpoint still holds a good model."""
    if not all_finite(tensor.detach() for tensor in tensors):
        raise SpoiledModelError(
            f"round {index}: {what} is not finite (NaN or infinite), so the server's model would be lost; the last checkpoint is "
            "of a round before. Try a lower rate of the server's optimizer, a robust rule, or a lower outlier_factor."
        )
