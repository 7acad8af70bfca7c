"""A client's own optimizer and scheduler, made by its module and begun anew for every client."""

import warnings
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from lkd.federated.client.configured_optimizers import configure
from lkd.federated.client.plateau import Plateau
from lkd.federated.protocol.messages import RefusalError
from lkd.federated.protocol.tensors import Tensors

NO_FIT = 1000  # steps of a whole training, where there is none: nobody takes them


class LocalOptimizer:
    """What the module's `configure_optimizers` gives, in the life of many clients.

    Every client starts with an empty optimizer state (as in all algorithms here). A scheduler with Lightning's
    default interval, `"epoch"`, counts rounds; with `interval: "step"` it counts a client's local steps and
    begins anew for every client. One that is made for a whole training, with `trainer.estimated_stepping_batches`, goes
    on where the client's round is: that number is the steps that the client makes in all rounds. A plateau is each
    client's own.

    Args:
        module: The module on which clients train.

    Raises:
        ValueError: For several optimizers or schedulers, or a cycle that is over before the rounds are.
    """

    def __init__(self, module: LightningModule) -> None:
        self.module, self._trainer = module, module.trainer
        self.rounds = 0
        self._whole = False
        self._make(self._asked)
        self.plateau = Plateau.of(self.configured)
        self._groups = self._snapshot()
        self._round, self._planned = 0, 1
        self._kept: Tensors = {}
        if isinstance(self.scheduler, OneCycleLR) and not self.by_step and self._fits:
            rounds = int(self._all_rounds() // self.frequency)
            if self.scheduler.total_steps < rounds:
                raise ValueError(
                    f"{type(module).__name__} uses OneCycleLR(total_steps={self.scheduler.total_steps}), whose steps are rounds "
                    f"here, and there are {rounds}: take self.trainer.estimated_stepping_batches."
                )

    @property
    def _fits(self) -> bool:
        return self._trainer.state.fn == "fit"

    def _all_rounds(self) -> float:
        return self._trainer.estimated_stepping_batches if self._fits else NO_FIT

    def _asked(self) -> float:
        self._whole = True
        return self._all_rounds()

    def _make(self, steps: Any) -> None:
        self.configured = configure(self.module, steps)
        self.optimizer: torch.optim.Optimizer = self.configured.optimizer
        self.scheduler: LRScheduler | None = self.configured.scheduler
        self.by_step, self.frequency = self.configured.by_step, self.configured.frequency

    def _snapshot(self) -> list[dict[str, Any]]:
        return [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]

    def enter(self, round: int, planned: int, kept: Tensors) -> None:
        """Says whose work begins.

        Args:
            round: Number of the round.
            planned: Steps that the client makes in it; where it makes none of its own, the round counts as one.
            kept: What the client keeps of its plateau.
        """
        while self.rounds < round:  # that were over before this process was there
            self.end_round()
        self._round, self._planned, self._kept = round, max(planned, 1), kept

    def begin_client(self) -> None:
        """An empty state and the hyper-parameters of this round."""
        if self.by_step:  # a scheduler cannot be rewound
            self._make(lambda: self._all_rounds() * self._planned)
            self._go_on()
            return
        self.optimizer.state.clear()
        del self.optimizer.param_groups[len(self._groups) :]  # that a client has added
        for group, values in zip(self.optimizer.param_groups, self._groups, strict=True):
            group.update(values)
        if self.plateau is not None:
            self.plateau.begin(self._kept)

    def _go_on(self) -> None:
        """Brings a schedule of a whole training to where this round begins."""
        whole, steps = self._whole, self._planned // self.frequency
        if isinstance(self.scheduler, OneCycleLR) and not whole:
            total, rounds = self.scheduler.total_steps, self._all_rounds()
            whole = total == rounds * steps
            if total not in (steps, rounds * steps):
                raise RefusalError(
                    f"{type(self.module).__name__} uses OneCycleLR(total_steps={total}), but a client makes {steps} steps in a "
                    f"round, {rounds * steps} in all: take self.trainer.estimated_stepping_batches, which is the latter for "
                    "every client."
                )
        if whole and self.scheduler is not None:
            with warnings.catch_warnings():  # of steps without the optimizer's
                warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                for _ in range(self._round * steps):
                    self.scheduler.step()

    def end_round(self) -> None:
        """Steps a scheduler that counts rounds."""
        self.rounds += 1
        done = self.rounds % self.frequency == 0
        if self.scheduler is None or self.by_step or self.plateau is not None or not done:
            return
        for group, values in zip(self.optimizer.param_groups, self._groups, strict=True):
            group.update(values)
        with warnings.catch_warnings():  # torch warns where this process had no client in the round
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            self.scheduler.step()
        self._groups = self._snapshot()

    def state_dict(self) -> dict[str, Any]:
        """The scheduler's place and the hyper-parameters that it has come to."""
        counts = self.scheduler is not None and not self.by_step and self.plateau is None
        schedule = self.scheduler.state_dict() if counts and self.scheduler is not None else None
        return {"rounds": self.rounds, "groups": self._groups, "scheduler": schedule}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where a run was interrupted."""
        self.rounds = state["rounds"]
        if state["scheduler"] is not None and self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
            self._groups = state["groups"]
