"""An additional loss in a module's training step, on outputs of its layers in the same step."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor

from lkd.federated.client.context import scratch_of
from lkd.finite import require_finite
from lkd.looks import looking
from lkd.taps import Taps

Extra = Callable[[dict[str, Any], Any, Taps], Tensor | None]
"""From the working client's scratch, the batch and the tapped layers to the added loss, or None."""


def add_loss(
    module: LightningModule, extra: Extra, layers: Sequence[str], name: str, alpha: float = 1.0
) -> None:
    """Makes `training_step` return `alpha` times its own loss, plus an added one.

    Args:
        module: The module.
        extra: Computes the added loss.
        layers: Layers that are tapped for it, as `lkd.taps.Taps` reads them.
        name: Name under which the added loss is logged.
        alpha: Weight of the module's own (hard-label) loss.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lkd.modules import Classifier
        >>> module = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), num_classes=3)
        >>> module.log = lambda *args, **kwargs: None
        >>> add_loss(module, lambda scratch, batch, taps: taps.output("").square().mean(), [""], "decay", alpha=0.0)
        >>> loss = module.training_step((torch.zeros(2, 1, 2, 2), torch.tensor([0, 1])))
        >>> torch.allclose(loss, module.network[1].bias.square().mean())
        True
    """
    step = module.training_step

    @functools.wraps(step)  # the local loop reads the user's signature to decide what to pass
    def extended(batch: Any, *args: Any, **kwargs: Any) -> Any:
        with looking(module, first=not args or args[0] == 0):
            with Taps(module, layers, "layer") as taps:
                output = step(batch, *args, **kwargs)
            if output is None:
                return None
            own: Any = output["loss"] if isinstance(output, dict) else output
            added = extra(scratch_of(module), batch, taps)
            total: Tensor = alpha * own
            if added is not None:
                module.log(name, added.detach())
                total = total + added
                require_finite(module, total, {"own": own, name: added})
            return {**output, "loss": total} if isinstance(output, dict) else total

    module.training_step = extended  # type: ignore[method-assign]
