"""Where modules run: the Trainer's device and precision, and a batch's way there."""

import contextlib
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lkd.transfers import hooks_of, stage, through_module


class Runtime:
    """Carries batches to where a module is.

    Args:
        module: The module.
        trainer: Whose device and precision hold.
        accumulate: Batches in an optimizer step of a client.
        clip: Largest norm of a step's gradient; None for no clipping.
    """

    def __init__(
        self, module: LightningModule, trainer: Trainer, accumulate: int = 1, clip: float | None = None
    ) -> None:
        self.module, self.trainer, self.accumulate, self.clip = module, trainer, accumulate, clip
        self._moves = module.device.type != "cpu" or trainer.precision != "32-true" or bool(hooks_of(module))

    def on_device(self, batch: Any) -> Any:
        """A batch where the module is, in its precision; nothing to do for fp32 on a CPU."""
        if not self._moves:
            return batch
        module, trainer = self.module, self.trainer  # the strategy would ask the federation's hooks
        # at data to be measured on, in the middle of a round
        looks = trainer.training and not module.training
        with stage(trainer, "validating") if looks else contextlib.nullcontext():
            return through_module(batch, module, trainer)
