"""A module's own training step as a pure function of its tensors, for the transforms of `torch.func`."""

import dis
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
"""From parameters, buffers, a batch and (by keyword) `batch_idx` to the loss, the logs and new buffers."""


def functional_step(module: LightningModule, logger: Log, example: Any = None) -> Step:
    """Turns a module's `training_step` into a pure `step(params, buffers, batch) -> loss, (logs, buffers)`.

    The function changes neither the module, nor the tensors that it is given, nor what `logger` holds. It
    inspects no value, so its caller checks the first batch (`example`, or the module's `check_labels`) and
    the losses. It can be stacked, as
    `torch.func.vmap(torch.func.grad(step, has_aux=True), in_dims=(0, 0, 0))`, for modules whose step does not
    branch on values and has the same shapes for every client; docs/architecture.md says which of lkd's do.

    Args:
        module: The module, in the mode that it trains in.
        logger: Log that knows how each logged value is averaged, and in `sizes` over how many samples.
        example: A batch for one trial step, which fixes all that a first step finds out: the labels, and for
            a distillation the layers, the order of dimensions and what is changed in place. Nothing else of
            it stays. None if the module has already made a step.

    Returns:
        The function. It takes tensors by their names in the module; for names that are missing it uses the
        module's own.

    Raises:
        ValueError: When the function is called, if the step gives no loss or logs a torchmetrics `Metric`.

    Example:
        >>> from lkd.models import MLP
        >>> from lkd.modules import Classifier
        >>> module, batch = Classifier(MLP(4, 3), num_classes=3), (torch.zeros(2, 4), torch.tensor([0, 2]))
        >>> step = functional_step(module, Log(), example=batch)
        >>> loss, (logs, buffers) = step(dict(module.named_parameters()), {}, batch)
        >>> list(logs), torch.equal(loss, logs["train/loss"])
        (['train/loss'], True)
    """
    with_index = len(inspect.signature(module.training_step).parameters) > 1

    def run(batch: Any, index: int) -> Tensor:
        output = module.training_step(batch, index) if with_index else module.training_step(batch)
        if output is None:
            raise ValueError(
                f"{type(module).__name__}.training_step returned None: a step that is stacked over clients cannot skip a batch."
            )
        return loss_of(output)

    def logged(batch: Any, index: int) -> tuple[Tensor, Tensors]:
        before = vars(module).get("log")
        try:
            with logger.returning() as logs:
                module.log = logger  # type: ignore[assignment, method-assign]
                logger.at(batch)
                loss = run(batch, index)
        finally:
            logger.at(None)
            if before is None:
                del module.log
            else:
                vars(module)["log"] = before
        return loss, logs

    if example is not None:
        with unchanged(module), silent(module), torch.enable_grad():
            run(example, 0)
    whole = functional(module, logged)

    def step(
        params: Tensors, buffers: Tensors, batch: Any, *, batch_idx: int = 1
    ) -> tuple[Tensor, tuple[Tensors, Tensors]]:
        (loss, logs), after = whole(params, buffers, batch, batch_idx)
        return loss, (logs, after)

    return step


def reads_index(step: Callable[..., Any]) -> bool:
    """Tells whether a training step may read its `batch_idx`; it may where that is not known.

    Example:
        >>> reads_index(lambda self, batch, batch_idx: batch), reads_index(lambda self, batch, i: batch[i])
        (False, True)
    """
    function: Any = getattr(step, "__func__", step)
    while hasattr(function, "__wrapped__"):
        if function.__globals__["__name__"].partition(".")[0] != "lkd":  # lkd's use it to look at values
            return True
        function = function.__wrapped__
    code = getattr(function, "__code__", None)
    if code is None or code.co_argcount < 3:
        return code is None or bool(code.co_flags & inspect.CO_VARARGS)
    name, found = code.co_varnames[2], [i.argval for i in dis.get_instructions(code)]
    return any(name in value if isinstance(value, tuple) else value == name for value in found)


def functional(module: nn.Module, function: Callable[..., Any]) -> Callable[..., tuple[Any, Tensors]]:
    """Turns a function that uses a module into a pure one of the module's tensors.

    Args:
        module: The module; it is in the mode that the function leaves it in.
        function: Uses the module, which it holds by itself.

    Returns:
        From parameters, buffers and the function's arguments to what it returns, and new buffers. For names
        that are missing it uses the module's own tensors.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> found, _ = functional(layer, lambda x: layer(x))({"bias": torch.ones(1)}, {}, torch.zeros(3, 2))
        >>> found.tolist()
        [[1.0], [1.0], [1.0]]
    """
    whole = _Whole(module, function)

    def call(params: Tensors, buffers: Tensors, *args: Any) -> tuple[Any, Tensors]:
        copies = {name: buffer.clone() for name, buffer in buffers.items()}  # a step changes them in place
        given = {f"module.{name}": tensor for name, tensor in {**params, **copies}.items()}
        with unseen():
            found, after = functional_call(whole, given, args)
        return found, {name: after[name] for name in buffers}

    return call


class _Whole(nn.Module):
    """Module whose forward is a function of another module, as `functional_call` needs it."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *args: Any) -> tuple[Any, Tensors]:
        return self.function(*args), dict(self.module.named_buffers(remove_duplicate=False))
