"""`TemperatureSchedule`: the distillation temperature as a function of epochs, steps or rounds."""

import math
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from lkd.callbacks.distillation import running_terms
from lkd.checks import expect
from lkd.losses import DIST, DKD, KD, NKD, Dissimilarity, Term

RESPONSE = (KD, DKD, DIST, NKD, Dissimilarity)
"""Terms whose temperature softens class scores."""


class TemperatureSchedule(Callback):
    """Callback that sets the temperature of the terms of a running `Distillation`.

    At epoch (or step) i of n, from 0, the temperature is `start + (end - start) i / n` for `"linear"` and
    `end + (start - end) (1 + cos(pi i / n)) / 2` for `"cosine"`, and `end` from n on; for `"constant"` it is
    always `start`. It is a function of Lightning's own counts and of nothing else, so a resumed run goes on
    exactly. Under a `lkd.federated.Federation` the steps are the rounds, and an epoch is as many rounds as
    its loader has cohorts, one unless told otherwise; all clients of a round have the same temperature. It is
    logged as `distillation/temperature`. After the fit the terms have their own temperatures again.

    Falling temperatures follow Jafari et al.: Annealing Knowledge Distillation, EACL 2021,
    arXiv:2104.07163; rising ones give harder targets first. Both shapes here are the usual ones of
    learning rates and come from no paper.

    Args:
        start: Temperature of the first epoch or step, above 0.
        end: Temperature at epoch or step n and after it, above 0. Not used by `"constant"`.
        shape: `"linear"`, `"cosine"` or `"constant"`. Default linear.
        epochs: n in epochs, at least 1. Default: the run's last epoch is the first at `end`.
        steps: n in optimizer steps or rounds instead.
        terms: Names of the terms that follow it, as they are logged (`"kd"`, `"dkd_2"`), with the terms
            inside them. Default: KD, DKD, DIST, NKD and dissimilarities. Other terms (CRD, .07) may mean
            something else by a temperature, and follow only when named.

    Raises:
        ValueError: For values out of range, if both epochs and steps are given, if neither is given and the
            run has no end, or if no term follows.

    Example:
        >>> schedule = TemperatureSchedule(start=8.0, end=2.0, shape="cosine", steps=2)
        >>> [schedule.temperature(step, 2) for step in range(4)]
        [8.0, 5.0, 2.0, 2.0]
    """

    def __init__(
        self,
        start: float,
        end: float = 1.0,
        shape: Literal["linear", "cosine", "constant"] = "linear",
        epochs: int | None = None,
        steps: int | None = None,
        terms: list[str] | None = None,
    ) -> None:
        expect(start=start, end=end, gt=0, lt=math.inf, why="it is a temperature")
        expect(shape=shape, among=("linear", "cosine", "constant"))
        if epochs is not None and steps is not None:
            raise ValueError(f"epochs={epochs} and steps={steps}: give one of them.")
        expect(epochs=epochs, steps=steps, ge=1, none="the whole fit")
        self.start, self.end, self.shape = start, end, shape
        self.epochs, self.steps, self.terms = epochs, steps, terms
        self._before: list[tuple[Any, float]] = []  # every term with a temperature, and the one it had before

    def temperature(self, at: int, length: int) -> float:
        """Returns the temperature at epoch or step `at` of `length`."""
        part = min(at / length, 1.0)
        match self.shape:
            case "linear":
                return self.start + (self.end - self.start) * part
            case "cosine":
                return self.end + (self.start - self.end) * (1 + math.cos(math.pi * part)) / 2
            case _:
                return self.start

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the terms that follow the schedule."""
        endless = self.steps is None and self.epochs is None and (trainer.max_epochs or -1) < 0
        if endless and self.shape != "constant":
            raise ValueError("max_epochs is not set, so the schedule has no end: give epochs or steps.")
        self._before = [(part, part.temperature) for part in self._softened(trainer)]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Sets the temperature of this step, or round."""
        if self.steps is not None:
            at, length = trainer.global_step, self.steps
        else:
            at, length = trainer.current_epoch, self.epochs or max((trainer.max_epochs or 1) - 1, 1)
        value = self.temperature(at, length)
        for part, _ in self._before:
            part.temperature = value
        pl_module.log("distillation/temperature", value, batch_size=1)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives the terms their own temperatures back."""
        while self._before:
            part, value = self._before.pop()
            part.temperature = value

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Gives them back also when a run breaks off: Lightning then calls no `teardown`."""
        self.teardown(trainer, pl_module, "fit")

    def _softened(self, trainer: Trainer) -> list[Any]:
        """Returns all terms that follow the schedule, including terms inside other terms."""
        named = running_terms(trainer)
        names = sorted(name for name, _ in named)
        missing = [name for name in self.terms or [] if name not in names]
        if missing:
            raise ValueError(f"terms={self.terms}: no term is called {missing[0]!r}, but {names} are.")
        chosen = [term for name, term in named if self.terms is None or name in self.terms]
        kinds: tuple[type[Term], ...] = RESPONSE if self.terms is None else (Term,)
        inside = [part for term in chosen for part in term.modules() if isinstance(part, kinds)]
        parts = [part for part in inside if hasattr(part, "temperature")]
        if not parts:
            found = f"the terms are {names}" if named else "the Trainer has no Distillation"
            raise ValueError(f"TemperatureSchedule(terms={self.terms}) finds no temperature to set: {found}.")
        return parts
