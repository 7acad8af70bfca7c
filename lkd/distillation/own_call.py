"""How a module's own step calls its forward."""

import inspect
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.seed import isolate_rng

from lkd.batches import call_of
from lkd.distillation.own_losses import silent
from lkd.taps import Call, Reached


def own_call(module: LightningModule, batch: Any, step: str = "training_step") -> Call:
    """Returns the arguments that a module's step gives its forward for a batch; the forward is not run.

    So whatever the step does to its batch before, such as taking an entry of a dict or scaling pixels, is
    done. Where the step never comes to the forward, as with a batch without labels that it wants first, they
    are those of `lkd.batches.call_of`.

    Args:
        module: The module, which stays as it is.
        batch: The batch, on the module's device.
        step: Name of the step.

    Example:
        >>> class Module(LightningModule):
        ...     def forward(self, x): ...
        ...     def training_step(self, batch, batch_idx):
        ...         return self(batch["pixels"] / 255)
        >>> own_call(Module(), {"pixels": 51, "label": 0}).args
        (0.2,)
    """
    return shown_call(module, batch, step) or call_of(module, batch)


@torch.no_grad()
def shown_call(module: LightningModule, batch: Any, step: str) -> Call | None:
    """Returns the same, or None where the step never comes to the forward."""
    run, before = getattr(module, step), vars(module).get("forward")
    calls: list[Call] = []

    def forward(*args: Any, **kwargs: Any) -> None:
        calls.append(Call(args, kwargs))
        raise Reached

    vars(module)["forward"] = forward
    try:
        with isolate_rng(), silent(module):
            run(batch, *((0,) if len(inspect.signature(run).parameters) > 1 else ()))
    except Exception:  # of any kind, since the batch may lack what the step wants
        pass
    finally:
        del vars(module)["forward"]
        if before is not None:
            vars(module)["forward"] = before
    return calls[0] if calls else None
