"""A module's own training step as a pure function of its tensors, which `torch.func` can differentiate and stack."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.func import functional_call

from lkd.distillation.own_losses import loss_of, silent
from lkd.federated.client.logger import Log
from lkd.federated.protocol.tensors import Tensors
from lkd.looks import unseen
from lkd.unchanged import unchanged

Step = Callable[..., tuple[Tensor, tuple[Tensors, Tensors]]]
"""From parameters, buffers, and a batch (and, by keyword, its `batch_idx`): the loss, and what is logged beside the new buffers."""


def functional_step(module: LightningModule, logger: Log, example: Any = None) -> Step:
    """Makes `step(params, buffers, batch) -> loss, (logs, buffers)` of a module's `training_step`.

    The function changes nothing: neither the module and the tensors that it is given nor what `logger` holds. It looks at no
    value, so that whoever calls it looks at the first batch (`example`, or the module's `check_labels`) and at the losses. It
    can be stacked, as `torch.func.vmap(torch.func.grad(step, has_aux=True), in_dims=(0, 0, 0))`, for modules whose
    step does not branch on values and has the same shapes for every client; docs/architecture.md says which of lkd's do.

    Args:
        module: The module, in the mode that it trains in.
        logger: What knows of each value that is logged how it is averaged, and in `sizes` how many samples it is of.
        example: A batch of which one step is run, so that all that a first step finds out (labels, and of a distillation
            layers, orders of dimensions and what is changed in place) is known. Nothing of it stays. None, if the module has
            made a step already.

    Returns:
        The function. It takes tensors by their names in the module; those that it is not given are the module's own.

    Raises:
        ValueError: When it is called, for a step that gives no loss, or that logs a torchmetrics `Metric`.

    Example:
        >>> from lkd.models import MLP
        >>> from lkd.modules import Classifier
        >>> module, batch = Classifier(MLP(4, 3), num_classes=3), (torch.zeros(2, 4), torch.tensor([0, 2]))
        >>> step = functional_step(module, Log(), example=batch)
        >>> loss, (logs, buffers) = step(dict(module.named_parameters()), {}, batch)
        >>> list(logs), torch.equal(loss, logs["train/loss"])
        (['train/loss'], True)
    """
    whole = _TrainingStep(module, logger)
    if example is not None:
        with unchanged(module), silent(module), torch.enable_grad():
            whole.run(example, 0)

    def step(
        params: Tensors, buffers: Tensors, batch: Any, *, batch_idx: int = 1
    ) -> tuple[Tensor, tuple[Tensors, Tensors]]:
        copies = {name: buffer.clone() for name, buffer in buffers.items()}  # a step changes them in place
        given = {f"module.{name}": tensor for name, tensor in {**params, **copies}.items()}
        with unseen():
            loss, (logs, after) = functional_call(whole, given, (batch, batch_idx))
        return loss, (logs, {name: after[name] for name in buffers})

    return step


class _TrainingStep(nn.Module):
    """Has a module's `training_step` for its forward, which is what `functional_call` calls."""

    def __init__(self, module: LightningModule, logger: Log) -> None:
        super().__init__()
        self.module, self.logger = module, logger
        self._with_index = len(inspect.signature(module.training_step).parameters) > 1

    def run(self, batch: Any, index: int) -> Tensor:
        output = (
            self.module.training_step(batch, index) if self._with_index else self.module.training_step(batch)
        )
        if output is None:
            raise ValueError(
                f"{type(self.module).__name__}.training_step returned None: a step that is stacked over clients cannot skip a batch."
            )
        return loss_of(output)

    def forward(self, batch: Any, index: int) -> tuple[Tensor, tuple[Tensors, Tensors]]:
        before = vars(self.module).get("log")
        try:
            with self.logger.returning() as logs:
                self.module.log = self.logger  # type: ignore[assignment, method-assign]
                loss = self.run(batch, index)
        finally:
            if before is None:
                del self.module.log
            else:
                vars(self.module)["log"] = before
        return loss, (logs, dict(self.module.named_buffers(remove_duplicate=False)))
