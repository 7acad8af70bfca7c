"""The Trainer's device and precision, and the move of batches there."""

import contextlib
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lkd.transfers import hooks_of, stage, through_module


class Runtime:
    """Mover of batches to a module's device and precision.

    Args:
        module: The module.
        trainer: The Trainer, whose device and precision are used.
        accumulate: Batches per optimizer step of a client.
        clip: Largest norm of a step's gradient; None for no clipping.
    """

    def __init__(
        self, module: LightningModule, trainer: Trainer, accumulate: int = 1, clip: float | None = None
    ) -> None:
        self.module, self.trainer, self.accumulate, self.clip = module, trainer, accumulate, clip
        self.moves = module.device.type != "cpu" or trainer.precision != "32-true" or bool(hooks_of(module))

    def on_device(self, batch: Any) -> Any:
        """Moves a batch to the module's device, in its precision; fp32 on a CPU needs no move."""
        if not self.moves:
            return batch
        module, trainer = self.module, self.trainer  # the strategy would call the federation's hooks
        # a measurement in the middle of a round
        looks = trainer.training and not module.training
        with stage(trainer, "validating") if looks else contextlib.nullcontext():
            return through_module(batch, module, trainer)
