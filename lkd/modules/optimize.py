"""Parts that the modules' `configure_optimizers` share."""

from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from torch import nn


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Splits trainable parameters into two groups; those of one dimension get no weight decay.

    Decay of biases and norms only shrinks values that nothing else bounds (He et al. 2019, arXiv:1812.01187,
    3.1).

    Args:
        module: Any module; parameters with `requires_grad=False` are left out.

    Returns:
        Groups for an optimizer; the first takes the optimizer's own weight decay. Empty groups are left out.

    Example:
        >>> groups = parameter_groups(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
        >>> [(len(group["params"]), group.get("weight_decay")) for group in groups]
        [(1, None), (3, 0.0)]
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in trainable if parameter.ndim > 1]},
        {"params": [parameter for parameter in trainable if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def configure(
    module: LightningModule, optimizer: OptimizerCallable, scheduler: LRSchedulerCallable | None
) -> dict[str, Any]:
    """Creates the optimizer over the module's parameter groups, and its scheduler, stepped once per epoch.

    Args:
        module: The module to train.
        optimizer: Creates an optimizer of parameter groups.
        scheduler: Creates a scheduler of an optimizer; None for a constant learning rate.

    Returns:
        What `configure_optimizers` returns.

    Raises:
        ValueError: If all parameters are frozen.
    """
    groups = parameter_groups(module)
    if not groups:
        raise ValueError("nothing to train: all parameters are frozen (requires_grad=False); lower `freeze`.")
    made = optimizer(groups)
    if scheduler is None:
        return {"optimizer": made}
    schedule = scheduler(made)
    entry = {"scheduler": schedule, "interval": "epoch"}
    if isinstance(schedule, ReduceLROnPlateau):
        entry["monitor"] = schedule.monitor
    return {"optimizer": made, "lr_scheduler": entry}
