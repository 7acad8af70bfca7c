"""Reasons why clients cannot be stacked, found before the first round."""

from typing import TYPE_CHECKING

import torch

from lkd.federated.client.model_slot import ModelSlot
from lkd.federated.client.traces import HOOKS
from lkd.transfers import hooks_of

if TYPE_CHECKING:
    from lkd.federated.algorithms.base import Algorithm

ELEMENTWISE = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
)
"""Optimizers whose step on one number does not depend on the others."""
BACKWARD = ("_backward_hooks", "_backward_pre_hooks")
"""Names of a layer's hooks on gradients."""


def why_not(slot: ModelSlot, algorithm: "Algorithm") -> str | None:
    """Returns why the clients of an architecture cannot be stacked; None if nothing is known against it.

    Args:
        slot: The architecture's module, with its optimizer and loop.
        algorithm: The federation's algorithm.
    """
    loop, optimizer, module = slot.loop, slot.local_optimizer, type(slot.module).__name__
    kind = type(optimizer.optimizer)
    if not vars(type(algorithm)).get("stacks", False):
        return f"{type(algorithm).__name__} does not say that its client half works on stacked tensors (stacks = True)"
    if kind not in ELEMENTWISE:
        return f"{kind.__name__} of {module} is not known to treat each weight by itself"
    if optimizer.plateau is not None:
        return f"the scheduler of {module} waits for each client's own metric"
    parameters = list(slot.module.parameters())
    if any(getattr(p, name, None) for p in parameters for name in HOOKS):
        return f"a parameter of {module} has hooks, which see one client's gradient"
    if any(getattr(part, name, None) for part in slot.module.modules() for name in BACKWARD):
        return f"a layer of {module} has backward hooks, which see one client's gradient"
    if own := hooks_of(slot.module):
        return f"{own[0]} of {module} may use each client's weights"
    if _has_hooks(optimizer.optimizer):
        return f"{kind.__name__} of {module} has hooks or a step of its own"
    if loop.hooks:
        return f"{module} has hooks that are called for each client ({', '.join(loop.hooks)})"
    if slot.worker.generators:
        return f"{module} holds a random generator of its own, which each client seeds for itself"
    if loop.accumulate > 1:
        return f"accumulate_grad_batches={loop.accumulate} adds up the gradients of several batches"
    if loop.trainer.precision not in ("32-true", "64-true"):
        return f"precision={loop.trainer.precision!r} scales or casts each client's step"
    return None


def _has_hooks(optimizer: torch.optim.Optimizer) -> bool:
    """Whether more happens at a step than the optimizer's own; what a scheduler does to count them is no more."""
    step = vars(optimizer).get("step")
    patched = step is not None and not hasattr(step, "_wrapped_by_lr_sched")
    return patched or bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)
