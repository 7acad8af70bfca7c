"""`EMA`: trains on the current weights, evaluates and keeps their exponential moving average."""

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from lkd.checks import expect


class EMA(WeightAveraging):
    """Exponential moving average of all weights and float buffers (batch statistics), with YOLO's ramp.

    After optimizer step n: `average = d_n average + (1 - d_n) current` with `d_n = decay (1 - exp(-n /
    tau))`, so early steps hardly count; the first step copies. Integer buffers are copied. Validation runs on
    the average. It is also what a checkpoint's `state_dict` holds, and what the module holds after `fit`.
    Checkpoints keep the current weights beside it, so that a resumed run continues exactly.

    Built on Lightning's `WeightAveraging`, but the copy is made when fit starts instead of in `setup`: by
    then the module has its layers and is on its device.

    Args:
        decay: The final decay, in [0, 1).
        tau: Steps over which the decay ramps up; 0 for no ramp.

    Raises:
        ValueError: For a decay or tau outside its range, or a module of `pytorch_lightning`.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[EMA(decay=0.999)], logger=False, enable_checkpointing=False)
    """

    def __init__(self, decay: float = 0.9999, tau: float = 2000.0) -> None:
        expect(decay=decay, ge=0, lt=1)
        expect(tau=tau, ge=0)
        super().__init__(multi_avg_fn=self._average)
        self.decay, self.tau = decay, tau

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Starts counting; the copy is made when fit starts."""
        if not isinstance(pl_module, LightningModule):
            raise ValueError(
                f"EMA is built on the package lightning, and {type(pl_module).__name__} on pytorch_lightning: import its LightningModule "
                "and Trainer from lightning.pytorch."
            )
        self._latest_update_step = trainer.global_step

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copies the module, or moves the copy that a checkpoint has filled to the module's device."""
        if self._average_model is None:
            super().setup(trainer, pl_module, "fit")
        assert self._average_model is not None
        self._average_model.to(pl_module.device)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restores the average and the current weights.

        Lightning calls it between `setup` and `on_fit_start`.
        """
        if trainer.state.fn == "fit":
            super().setup(trainer, pl_module, "fit")
        super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Drops the copy: the module holds the average now, and a later validation must not swap anything."""
        self._average_model = None

    @torch.no_grad()
    def _average(self, averages: Any, currents: Any, count: Tensor | int) -> None:
        """Updates averages of one device and type; `count` is the number of earlier updates, at least 1."""
        if not averages[0].is_floating_point():
            torch._foreach_copy_(averages, currents)
            return
        ramp = 1 - math.exp(-(int(count) + 1) / self.tau) if self.tau else 1.0
        torch._foreach_lerp_(averages, currents, 1 - self.decay * ramp)
