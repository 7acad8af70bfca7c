"""A client's own optimizer and scheduler, configured by its module and begun anew for every client."""

import warnings
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from lkd.federated.client.configured_optimizers import configure
from lkd.federated.client.plateau import Plateau
from lkd.federated.protocol.messages import RefusalError
from lkd.federated.protocol.tensors import Tensors

NO_FIT = 1000  # steps that a schedule of a whole training is given outside of a fit, where nobody takes them


class LocalOptimizer:
    """Optimizer and scheduler from the module's `configure_optimizers`, used by one client after the other.

    Every client starts with an empty optimizer state (as in all algorithms here). What an optimizer that is
    not PyTorch's own keeps where is not known, so it is made anew for every client. A scheduler with
    Lightning's default interval, `"epoch"`, counts rounds; with `interval: "step"` it counts a client's local
    steps and begins anew for every client. A scheduler for a whole training uses
    `trainer.estimated_stepping_batches`, the number of steps that the client makes in all rounds; it
    continues where the client's round is. Each client has its own plateau.

    Args:
        module: The module on which clients train.

    Raises:
        ValueError: For several optimizers or schedulers, or a `OneCycleLR` that ends before the rounds do.
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
        """Begins the work of a client.

        Args:
            round: Number of the round.
            planned: Steps that the client makes in it; 0 for work without steps, which counts as one.
            kept: The client's state of its plateau.
        """
        while self.rounds < round:  # a process that began late has missed rounds
            self.end_round()
        self._round, self._planned, self._kept = round, max(planned, 1), kept

    def begin_client(self) -> None:
        """Empties the optimizer's state, and sets the hyperparameters of this round."""
        if self.by_step:  # a scheduler cannot be rewound
            self._make(lambda: self._all_rounds() * self._planned)
            self._go_on()
            return
        if not type(self.optimizer).__module__.startswith("torch.optim."):
            self._make_again()
        self.optimizer.state.clear()
        del self.optimizer.param_groups[len(self._groups) :]  # groups that a client has added
        for group, values in zip(self.optimizer.param_groups, self._groups, strict=True):
            group.update(values)
        if self.plateau is not None:
            self.plateau.begin(self._kept)

    def _make_again(self) -> None:
        """Makes the optimizer anew, and with it a scheduler that goes on in this round."""
        before = self.scheduler
        self._make(self._asked)
        if self.plateau is not None:
            self.plateau.follow(self.configured)
        elif before is not None and self.scheduler is not None:
            self.scheduler.load_state_dict(before.state_dict())

    def _go_on(self) -> None:
        """Advances a schedule of a whole training to the beginning of this round."""
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
            with warnings.catch_warnings():  # torch warns of scheduler steps without optimizer steps
                warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                for _ in range(self._round * steps):
                    self.scheduler.step()

    def end_round(self) -> None:
        """Steps a scheduler that counts rounds, and counts the round."""
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
        """Returns the scheduler's state and the hyperparameters that it has reached."""
        counts = self.scheduler is not None and not self.by_step and self.plateau is None
        schedule = self.scheduler.state_dict() if counts and self.scheduler is not None else None
        return {"rounds": self.rounds, "groups": self._groups, "scheduler": schedule}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state of an interrupted run."""
        self.rounds = state["rounds"]
        if state["scheduler"] is not None and self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
            self._groups = state["groups"]
