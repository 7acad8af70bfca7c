"""Engine with clients in processes of their own, which see only messages of the federation."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn

from lkd.checks import expect
from lkd.federated.client.elsewhere import Place
from lkd.federated.client.state_files import StateFiles
from lkd.federated.engines.pickled import pickled
from lkd.federated.engines.remote import Channel, RemoteEngine, start_of
from lkd.federated.engines.worker import WorkerProcess
from lkd.federated.protocol.description import Description
from lkd.federated.protocol.messages import Message, RefusalError
from lkd.federated.protocol.tensors import Groups, Tensors, moved
from lkd.federated.protocol.wire import pack

START = 300.0
"""Seconds that a process may take to start."""


class Processes(RemoteEngine):
    """Engine with spawned processes, each of which works for its share of the clients.

    Each process creates data, modules and distillation itself, from a description that this process pickles
    once. After that, messages pass as bytes of tensors and plain values; reading them executes nothing. The
    clients' states are files. A client's work gives the same bits as with `Loop` if torch has as many
    threads. Callbacks that look at clients' modules, such as `HeadReport`, need `Loop`. A script that is run
    directly needs `if __name__ == "__main__":`.

    Args:
        workers: Number of processes. Default 2.
        threads: Threads of torch in each process. Default 1.
        start_timeout: Seconds that a process may take to start, with imports and loading of the data. Default
            300.
        keep: Whether the processes stay for another fit. Default: they end with this one.

    Raises:
        ValueError: For `workers` or `threads` below 1, or a `start_timeout` that is not above 0.

    Example:
        >>> Processes(workers=4).capabilities.shares_memory
        False
    """

    def __init__(
        self, workers: int = 2, threads: int = 1, start_timeout: float = START, keep: bool = False
    ) -> None:
        super().__init__()
        expect(workers=workers, threads=threads, ge=1)
        expect(start_timeout=start_timeout, gt=0, why="it is in seconds")
        self.workers, self.threads = workers, threads
        self.start_timeout, self.keep_processes = start_timeout, keep
        self._folder = tempfile.TemporaryDirectory(prefix="lkd_clients_")
        self._store = StateFiles(Path(self._folder.name))
        self._pool: list[WorkerProcess] = []
        self._data: bytes | None = None
        self._job: bytes | None = None
        self._start: list[Tensors] = []

    def meet(self, trainer: Trainer) -> None:
        """Pickles the data module before it is set up, since each process sets up its own."""
        data = cast(Any, trainer).datamodule
        self._data = None if data is None else pickled(data, "data")

    def open(self, description: Description) -> None:
        """Takes the description of the federation, and forgets the clients' states of another one."""
        self._description, self._job = description, None
        self._store.load_state_dict({})

    def prepare(self, trainer: Trainer, anew: bool) -> None:
        """Starts the processes, and sends them the description of the federation."""
        self._trainer = trainer
        self._device = trainer.strategy.root_device
        if self._job is not None and not anew:
            return
        fits = trainer.state.fn == TrainerFn.FITTING
        place = Place(
            accelerator=self._device.type if self._device.type != "cuda" else "gpu",
            devices=[self._device.index or 0] if self._device.type == "cuda" else 1,
            precision=str(trainer.precision),
            max_epochs=trainer.max_epochs,
            rounds=float(trainer.estimated_stepping_batches) if fits else 0.0,
            fits=fits,
            threads=self.threads,
            folder=Path(self._folder.name),
            shared=True,
        )
        self._start = [
            start_of(model, self._description.personal_layers) for model in self._description.models
        ]
        self._callbacks = [
            c for c in cast(Any, trainer).callbacks if hasattr(c, "take_settings") and place.fits
        ]
        job = self._description, place, self._clients(trainer), self._callbacks
        self._job = pickled(job, "the federation")
        self._begin_all()

    def _clients(self, trainer: Trainer) -> bytes | Any:
        if self._data is not None:
            return self._data
        cast(Any, trainer.fit_loop).setup_data()
        return cast(Any, trainer.train_dataloader).dataset

    def _begin_all(self) -> None:
        while len(self._pool) < self.workers:
            self._pool.append(WorkerProcess())
        for worker in self._pool:
            self._send_job(worker)
        for worker in self._pool:
            self._await_start(worker)

    def _send_job(self, worker: WorkerProcess) -> None:
        assert self._job is not None
        worker.begin()
        worker.send({"do": "job"}, self._job)
        worker.send({"do": "start"}, pack(Message({str(k): s for k, s in enumerate(self._start)})))

    def _await_start(self, worker: WorkerProcess) -> None:
        reply = worker.receive(self.start_timeout)
        if reply is None:
            raise RuntimeError(
                f"a worker process of engine=Processes did not begin within start_timeout={self.start_timeout:g} seconds, or ended "
                "(its output above says why): give it more time, or use engine=Loop() to see the error."
            )
        if reply.error:
            raise (RefusalError if reply.refused else RuntimeError)(reply.error)

    def _ready(self) -> None:
        if not self._pool:  # they ended with an earlier fit
            self._begin_all()

    def _who(self, client: int) -> WorkerProcess:
        return self._pool[self._place_of(client)]

    def _again(self, channel: Channel) -> None:
        assert isinstance(channel, WorkerProcess)
        self._send_job(channel)
        self._await_start(channel)

    def _absent(self, client: int) -> str:
        raise AssertionError("a worker process that ends is replaced at once")  # or `_again` has raised

    def _place_of(self, client: int) -> int:
        ranks = self._trainer.world_size if self._trainer is not None else 1
        return client // ranks % self.workers

    def undo(self, client: int) -> None:
        """Restores what a client kept before its last answer."""
        self._pool[self._place_of(client)].send({"do": "undo", "client": client})

    def keep(self, group: str) -> None:
        """Makes all clients forget what they keep, except for one group."""
        self._store.keep(group)

    def state_dict(self) -> dict[str, Any]:
        """Returns the clients' states from their files; schedules follow from the number of the round."""
        slots: list[dict[str, Any]] = [
            {"rounds": 0, "groups": [], "scheduler": None, "start": start} for start in self._start
        ]
        return {"clients": self._store.state_dict(), "slots": slots}

    def load_state_dict(self, clients: dict[int, Groups], slots: Sequence[dict[str, Any]] | None) -> None:
        """Restores the clients' part of a checkpoint."""
        self._store.load_state_dict(clients)
        for kind, slot in enumerate(slots or ()):
            self._start[kind] |= moved(slot.get("start", {}), "cpu")
        body = pack(Message({str(k): s for k, s in enumerate(self._start)}))
        for worker in self._pool:
            worker.send({"do": "start"}, body)

    def close(self) -> None:
        """Ends the processes; the clients' states stay in their files."""
        self._stop()
        if not self.keep_processes:
            for worker in self._pool:
                worker.end()
            self._pool = []

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("an engine with processes is not copied: give every Federation one of its own.")
