"""`WarmUp`: a linear warm-up of the learning rate over any optimizer and scheduler."""

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from lkd.checks import expect


class WarmUp(Callback):
    """Callback that raises the learning rate linearly to its full value over the first optimizer steps.

    At step i (from 0) of n the factor is `start_factor + (1 - start_factor) i / n`. It applies during the
    optimizer's step only: the rate is put back before a scheduler sees it. So it works with every scheduler,
    also with those that compute the next rate from the present one. (LearningRateMonitor therefore shows the
    rate without the warm-up.) Accumulated batches count once; steps that a gradient scaler skips do not
    count. The count is part of a checkpoint.

    Args:
        steps: Optimizer steps of the warm-up. Give this or `epochs`.
        epochs: The same in epochs, such as 3 or .5.
        start_factor: Factor of the first step, in [0, 1].
        momentum: Momentum (SGD) or first beta (Adam) of the first step, rising to the optimizer's own.
            Default: fixed.

    Raises:
        ValueError: Unless exactly one of `steps` and `epochs` is given, for a value out of range, or for
            epochs of unknown length.

    Example:
        >>> warmup = WarmUp(steps=4, start_factor=0.2)
        >>> [round(warmup.factor(step), 2) for step in range(6)]
        [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    """

    def __init__(
        self,
        steps: int | None = None,
        epochs: float | None = None,
        start_factor: float = 0.01,
        momentum: float | None = None,
    ) -> None:
        if (steps is None) == (epochs is None):
            raise ValueError(f"give either steps or epochs, got steps={steps} and epochs={epochs}.")
        expect(steps=steps or 0, epochs=epochs or 0, ge=0)
        expect(start_factor=start_factor, ge=0, le=1)
        expect(momentum=momentum, ge=0, lt=1, none="the optimizer's own")
        self.steps, self.epochs = steps, epochs
        self.start_factor, self.momentum = start_factor, momentum
        self._taken: list[int] = []  # steps of each optimizer
        self._handles: list[RemovableHandle] = []

    def progress(self, step: int) -> float:
        """Returns the share of the warm-up done before optimizer step `step`, 0 to 1."""
        return min(step / self.steps, 1.0) if self.steps else 1.0

    def factor(self, step: int) -> float:
        """Returns the factor of the learning rate at optimizer step `step` (from 0)."""
        return self.start_factor + (1 - self.start_factor) * self.progress(step)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Starts from zero; a checkpoint that is loaded afterward says where to continue."""
        self._taken = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hooks into the steps of the optimizers."""
        if self.epochs is not None:
            if math.isinf(trainer.num_training_batches):
                raise ValueError("epochs: the training data does not say its length; give steps instead.")
            a_step = trainer.accumulate_grad_batches
            self.steps = round(self.epochs * math.ceil(trainer.num_training_batches / a_step))
        self._taken = self._taken or [0] * len(trainer.optimizers)
        for index, optimizer in enumerate(trainer.optimizers):
            self._attach(index, optimizer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Removes the hooks from the optimizers."""
        while self._handles:
            self._handles.pop().remove()

    def state_dict(self) -> dict[str, Any]:
        """Returns the steps taken by each optimizer."""
        return {"taken": list(self._taken)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from the count in a checkpoint."""
        self._taken = list(state_dict["taken"])

    def _attach(self, index: int, optimizer: Optimizer) -> None:
        before: list[dict[str, Any]] = []

        def lower(optimizer: Optimizer, *_: Any) -> None:
            step = self._taken[index]
            for group in optimizer.param_groups if self.progress(step) < 1 else []:
                before.append({key: group[key] for key in ("lr", "momentum", "betas") if key in group})
                group["lr"] = group["lr"] * self.factor(step)
                if self.momentum is not None:
                    self._set_momentum(group, self.momentum, self.progress(step))

        def restore(optimizer: Optimizer, *_: Any) -> None:
            self._taken[index] += 1
            for group, values in zip(optimizer.param_groups, before, strict=False):
                group.update(values)
            before.clear()

        self._handles.append(optimizer.register_step_pre_hook(lower))
        self._handles.append(optimizer.register_step_post_hook(restore))

    @staticmethod
    def _set_momentum(group: dict[str, Any], start: float, progress: float) -> None:
        if "betas" in group:
            first, *others = group["betas"]
            group["betas"] = (start + (first - start) * progress, *others)
        elif "momentum" in group:
            group["momentum"] = start + (group["momentum"] - start) * progress
