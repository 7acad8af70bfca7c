"""The client side in a process of its own, built from what the federation's process describes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn, TrainerStatus

from lkd.federated.client.host import Host
from lkd.federated.client.state_files import StateFiles
from lkd.federated.protocol.client_data import ClientData, Part
from lkd.federated.protocol.description import Description


@dataclass
class Place:
    """Where and for how long the clients of a process train.

    Attributes:
        accelerator: Accelerator of the federation's Trainer.
        devices: The Trainer's device.
        precision: The Trainer's precision.
        max_epochs: The Trainer's epochs.
        rounds: All rounds of the fit, `trainer.estimated_stepping_batches`.
        fits: Whether the Trainer trains.
        threads: Threads of torch in this process.
        folder: Folder for the clients' states.
        shared: Whether other processes keep states there, too.
    """

    accelerator: str
    devices: Any
    precision: str
    max_epochs: int | None
    rounds: float
    fits: bool
    threads: int
    folder: Path
    shared: bool = False


@dataclass
class WorkerJob:
    """What a process needs to work for clients.

    Attributes:
        description: The federation.
        place: Where and for how long it works.
        data: A data module that is not set up yet, or all clients.
        callbacks: Callbacks that reach into the clients' modules, such as `Distillation`.
        seen: Turns the clients of the data into those that work here. Default: all of them.
    """

    description: Description
    place: Place
    data: Any
    callbacks: Sequence[Any] = ()
    seen: Callable[[Any], Any] = lambda clients: clients


class Students(LightningModule):
    """Stand-in for the federation, to which callbacks attach in order to reach the clients' modules.

    Args:
        modules: The modules that clients train.
        example: Gives a training batch of a client.
    """

    def __init__(self, modules: Sequence[LightningModule], example: Callable[[], Any]) -> None:
        super().__init__()
        self._modules_of_clients, self.example = (list(modules),), example

    @property
    def students(self) -> list[LightningModule]:
        """The modules that clients train."""
        return self._modules_of_clients[0]


class RoundTrainer(Trainer):
    """Trainer that runs nothing: clients' modules read device, precision and round from it."""

    def __init__(self, place: Place) -> None:
        super().__init__(
            accelerator=place.accelerator,
            devices=place.devices,
            precision=cast(Any, place.precision),
            max_epochs=place.max_epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        self._rounds = place.rounds
        self.state.status = TrainerStatus.RUNNING
        if place.fits:
            self.state.fn = TrainerFn.FITTING
            self.training = True

    @property
    def estimated_stepping_batches(self) -> float:
        """Number of rounds of the whole fit."""
        return self._rounds

    def at(self, epoch: int, step: int) -> None:
        """Sets the epochs and steps that the federation has made."""
        progress: Any = self.fit_loop.epoch_progress.current
        progress.completed = epoch
        loop = self.fit_loop.epoch_loop
        loop.manual_optimization.optim_step_progress.total.completed = step
        loop.automatic_optimization.optim_progress.optimizer.step.total.completed = step


class ClientSide:
    """Host with data, modules, Trainer and callbacks of its own.

    Args:
        job: What it is built from.

    Raises:
        ValueError: If a client could not do what the federation asks.
    """

    def __init__(self, job: WorkerJob) -> None:
        torch.set_num_threads(job.place.threads)
        self.trainer = RoundTrainer(job.place)
        self.callbacks = list(job.callbacks)
        self._data, self._seen, self._tests = job.data, job.seen, False
        self._clients = self._all_clients(job.data)
        self.host = Host(job.description, self._client, StateFiles(job.place.folder, job.place.shared))
        students = Students([slot.module for slot in self.host.slots], self._example)
        self.trainer.strategy._lightning_module = students
        students.trainer = self.trainer
        for slot in self.host.slots:
            slot.module.to(self.trainer.strategy.root_device)
            slot.source.to(self.trainer.strategy.root_device)
        for callback in self.callbacks:
            callback.setup(self.trainer, students, "fit")
        self.host.prepare(self.trainer, anew=True)
        if job.place.fits:
            self.host.expect(self._clients)

    def hold(self, part: Part) -> None:
        """Loads the data of a part; test data are loaded only when they are needed."""
        if part == "test" and not self._tests and isinstance(self._data, LightningDataModule):
            self._data.setup("test")
            self._clients, self._tests = self._seen(cast(Any, self._data).clients), True

    def _all_clients(self, data: Any) -> Any:
        if not isinstance(data, LightningDataModule):
            return self._seen(data)
        self.trainer.datamodule = data  # type: ignore[attr-defined]
        data.trainer = self.trainer
        data.prepare_data()
        data.setup("fit")
        return self._seen(cast(Any, data).clients)

    def _client(self, client: int) -> ClientData:
        found: ClientData = self._clients[[client]][0]
        return found

    def _example(self) -> Any:
        return next(iter(next(iter(self._clients)).train_batches(self.host.seed)))
