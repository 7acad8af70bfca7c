"""`WeightRamp`: the weights of distillation terms rise over the first epochs, steps or rounds."""

import math
from typing import Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from lkd.callbacks.distillation import running_terms
from lkd.checks import expect
from lkd.losses import Term


class WeightRamp(Callback):
    """Callback that raises the weights of the terms of a running `Distillation` to their full values.

    In epoch (or step) i of n, counted from 1, the factor is `min(i / n, 1)` for `"linear"`, and `exp(-5 (1 -
    min(i / n, 1))²)` for `"sigmoid"`. It is a function of Lightning's own counts and of nothing else, so a
    resumed run goes on exactly. Under a `lkd.federated.Federation` the steps are the rounds. After the fit
    the terms have their own weights again.

    Linear over 20 epochs is part of the CIFAR-100 recipes of DKD (Zhao et al., CVPR 2022) and ReviewKD (Chen
    et al., CVPR 2021) in the authors' code; the sigmoid is that of Laine and Aila: Temporal Ensembling, ICLR
    2017, arXiv:1610.02242, which the mean teacher takes over.

    Args:
        epochs: n in epochs. Give this or `steps`.
        steps: n in optimizer steps, or rounds.
        shape: `"linear"` or `"sigmoid"`. Default linear.
        terms: Names of the terms that follow it, as they are logged (`"dkd"`, `"kd_2"`). Default: all.

    Raises:
        ValueError: Unless exactly one of epochs and steps is given, for a value out of range, or if no term
            follows.

    Example:
        >>> ramp = WeightRamp(epochs=4)
        >>> [ramp.factor(number) for number in range(1, 7)]
        [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        epochs: int | None = None,
        steps: int | None = None,
        shape: Literal["linear", "sigmoid"] = "linear",
        terms: list[str] | None = None,
    ) -> None:
        if (epochs is None) == (steps is None):
            raise ValueError(f"give either epochs or steps, got epochs={epochs} and steps={steps}.")
        self.length = (epochs if epochs is not None else steps) or 0
        if self.length < 1:
            raise ValueError(f"epochs={epochs}, steps={steps} must be 1 or more.")
        expect(shape=shape, among=("linear", "sigmoid"))
        self.by_steps, self.shape, self.terms = steps is not None, shape, terms
        self._before: list[tuple[Term, float]] = []

    def factor(self, number: int) -> float:
        """Returns the factor of the weights in epoch or step `number`, counted from 1."""
        part = min(number / self.length, 1.0)
        return part if self.shape == "linear" else math.exp(-5 * (1 - part) ** 2)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the terms that follow the ramp."""
        named = dict(running_terms(trainer))
        unknown = [name for name in self.terms or [] if name not in named]
        if unknown or not named:
            raise ValueError(
                f"terms={self.terms}: WeightRamp finds no such term; the running distillation has {sorted(named)}."
            )
        chosen = named if self.terms is None else self.terms
        self._before = [(named[name], named[name].weight) for name in chosen]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Sets the weights of this step, or round."""
        factor = self.factor(1 + (trainer.global_step if self.by_steps else trainer.current_epoch))
        for term, weight in self._before:
            term.weight = factor * weight

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives the terms their own weights back."""
        while self._before:
            term, weight = self._before.pop()
            term.weight = weight

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Gives them back also when a run breaks off: Lightning then calls no `teardown`."""
        self.teardown(trainer, pl_module, "fit")
