"""A loss that is not finite stops training, with a sentence that says which part it was."""

from collections.abc import Mapping

from lightning.pytorch import LightningModule
from torch import Tensor


def require_finite(module: LightningModule, loss: Tensor, parts: Mapping[str, Tensor]) -> None:
    """Stops a run whose loss is NaN or infinite.

    Under fp16 with a gradient scaler an overflow now and then is normal, and the scaler skips that step, so
    nothing is raised there. Costs one synchronisation with the device.

    Args:
        module: The module that trains.
        loss: The scalar that would be differentiated.
        parts: What it is made of, for the message.

    Raises:
        FloatingPointError: If the loss is not finite.
    """
    plugin = getattr(module._trainer, "precision_plugin", None)
    if getattr(plugin, "scaler", None) is not None or bool(loss.isfinite()):
        return
    values = ", ".join(f"{name}={float(value):.4g}" for name, value in parts.items())
    raise FloatingPointError(
        f"the loss is not finite ({values}): lower the learning rate or a weight, or look for bad values in the data."
    )
