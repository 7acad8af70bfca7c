"""Evaluation of a module outside of the Trainer's loops, by its own validation or test steps and hooks."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from lkd.federated.client.delegation import call_step
from lkd.federated.client.logger import Log
from lkd.federated.protocol.client_data import Part
from lkd.transfers import stage


@torch.no_grad()
def evaluate(
    module: LightningModule,
    batches: Iterable[Any],
    part: Part,
    trainer: Trainer,
    log: Log,
    move: Callable[[Any], Any],
) -> dict[str, float]:
    """Runs the steps on all batches and returns what they log.

    Args:
        module: The module, which is in eval mode afterwards.
        batches: The data.
        part: `"val"` for the module's validation steps, `"test"` for its test steps.
        trainer: The Trainer; its precision is used, and its stage is set for the module.
        log: The log that takes the module's `log` calls.
        move: Moves a batch to the module's device.
    """
    kind = "validation" if part == "val" else "test"
    module.eval()
    step = getattr(module, f"{kind}_step")
    with stage(trainer, "validating" if part == "val" else "testing"):
        getattr(module, f"on_{kind}_start")()
        getattr(module, f"on_{kind}_epoch_start")()
        for index, given in enumerate(batches):
            batch = move(given)
            log.at(batch)
            getattr(module, f"on_{kind}_batch_start")(batch, index)
            with trainer.precision_plugin.val_step_context():
                output = call_step(step, batch, index)
            getattr(module, f"on_{kind}_batch_end")(output, batch, index)
        log.at(None)
        getattr(module, f"on_{kind}_epoch_end")()
        getattr(module, f"on_{kind}_end")()
    return log.compute()
