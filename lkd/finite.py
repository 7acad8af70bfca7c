"""Checks that stop training at a loss or weight that is not finite, with a message that names the part."""

import math
from collections.abc import Mapping

from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lkd.looks import later, look_back

ADVICE = "lower the learning rate or a weight, or look for bad values in the data."


def require_finite(module: LightningModule, loss: Tensor, parts: Mapping[str, Tensor]) -> None:
    """Stops a run whose loss is NaN or infinite, at a time set by `lkd.looks.later`.

    Under fp16 with a gradient scaler an overflow now and then is normal, and the scaler skips that step, so
    nothing is raised there.

    Args:
        module: The module that trains.
        loss: The scalar that would be differentiated.
        parts: Parts of the loss, for the message.

    Raises:
        FloatingPointError: If the loss, or one of an earlier step that was not checked yet, is not finite.
    """
    plugin = getattr(module._trainer, "precision_plugin", None)
    if getattr(plugin, "scaler", None) is not None:
        return
    names = list(parts)

    def refuse(values: list[float]) -> None:
        if math.isfinite(values[0]):
            return
        each = ", ".join(f"{name}={value:.4g}" for name, value in zip(names, values[1:], strict=True))
        raise FloatingPointError(f"the loss is not finite ({each}): {ADVICE}")

    later([loss.detach(), *(part.detach() for part in parts.values())], refuse)


def require_finite_weights(module: nn.Module) -> None:
    """Refuses to continue, or to write a checkpoint, with a module that a bad loss has spoiled.

    Raises:
        FloatingPointError: If the loss of a step since the last check, or a trained weight, is not finite.
    """
    look_back(module)
    for name, weight in module.named_parameters():
        if weight.requires_grad and not is_lazy(weight) and not bool(weight.isfinite().all()):
            raise FloatingPointError(f"the weights are not finite ({name} holds NaN or infinity): {ADVICE}")
