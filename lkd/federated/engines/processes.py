"""Clients in processes of their own, which see nothing of the federation but messages."""

import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from lkd.checks import expect
from lkd.federated.client.elsewhere import Place
from lkd.federated.client.state_files import StateFiles
from lkd.federated.engines.base import Capabilities, Engine
from lkd.federated.engines.pickled import pickled
from lkd.federated.engines.worker import Worker
from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.description import Description
from lkd.federated.protocol.messages import Message, RefusalError, Reply
from lkd.federated.protocol.tensor_names import split_names
from lkd.federated.protocol.tensors import Groups, Tensors, moved
from lkd.federated.protocol.wire import pack, unpack

GRACE = 10.0
"""Seconds beyond its time after which a worker that does not answer is ended."""
START = 300.0
"""Seconds that a worker may take to begin."""


class Processes(Engine):
    """Lets clients work in spawned processes, each for the clients whose ids fall to it.

    A process makes data, modules and distillation itself, from a description that this one pickles once; after that
    messages pass as bytes of tensors and plain values, which run nothing when they are read. What clients keep lies in files of
    theirs. A client's work is the same bits as with `Loop` where torch has as many threads. Callbacks that look at
    clients' modules, such as `HeadReport`, need `Loop`. A script that is run by itself needs `if __name__ == "__main__":`.

    Args:
        workers: Processes. Default 2.
        threads: Of torch in each. Default 1.
        start_timeout: Seconds that a process may take to begin, which is to import and to load the data. Default 300.
        keep: Whether the processes stay for another fit. Default: they end with this one.

    Raises:
        ValueError: For numbers below 1.

    Example:
        >>> Processes(workers=4).capabilities.shares_memory
        False
    """

    capabilities = Capabilities(shares_memory=False)

    def __init__(
        self, workers: int = 2, threads: int = 1, start_timeout: float = START, keep: bool = False
    ) -> None:
        expect(workers=workers, threads=threads, ge=1)
        expect(start_timeout=start_timeout, gt=0, why="it is in seconds")
        self.workers, self.threads = workers, threads
        self.start_timeout, self.keep_processes = start_timeout, keep
        self._folder = tempfile.TemporaryDirectory(prefix="lkd_clients_")
        self._store = StateFiles(Path(self._folder.name))
        self._pool: list[Worker] = []
        self._data: bytes | None = None
        self._job: bytes | None = None
        self._start: list[Tensors] = []
        self._callbacks: list[Any] = []
        self._trainer: Trainer | None = None
        self._open = 0

    def meet(self, trainer: Trainer) -> None:
        """Notes the data module before it is set up: each process sets up its own."""
        data = cast(Any, trainer).datamodule
        self._data = None if data is None else pickled(data, "data")

    def open(self, description: Description) -> None:
        """See `Engine.open`; what clients of another federation have kept is forgotten."""
        self._description, self._job = description, None
        self._store.load_state_dict({})

    def prepare(self, trainer: Trainer, anew: bool) -> None:
        """Describes the federation to the processes, which begin here."""
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
        )
        self._start = [_start(model, self._description.personal_layers) for model in self._description.models]
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
            self._pool.append(Worker())
        for worker in self._pool:
            self._send_job(worker)
        for worker in self._pool:
            self._await_start(worker)

    def _send_job(self, worker: Worker) -> None:
        assert self._job is not None
        worker.begin()
        worker.send({"do": "job"}, self._job)
        worker.send({"do": "start"}, pack(Message({str(k): s for k, s in enumerate(self._start)})))

    def _await_start(self, worker: Worker) -> None:
        reply = worker.receive(self.start_timeout)
        if reply is None:
            raise RuntimeError(
                f"a worker process of engine=Processes did not begin within start_timeout={self.start_timeout:g} seconds, or ended "
                "(its output above says why): give it more time, or use engine=Loop() to see the error."
            )
        if reply.error:
            raise (RefusalError if reply.refused else RuntimeError)(reply.error)

    def expect(self, clients: Sequence[ClientData]) -> None:
        """Each process has looked at all clients when it began."""

    def check(self, clients: Sequence[ClientData]) -> None:
        """Each process has."""

    def enter(self, clients: Sequence[ClientData]) -> None:
        """Their data stay where they are."""

    def exchange(
        self, verb: str, messages: Mapping[int, Message], timeout: float | None = None
    ) -> Iterator[Reply]:
        """See `Engine.exchange`; clients of different processes work side by side.

        Raises:
            RuntimeError: Within another exchange.
        """
        if self._open:
            raise RuntimeError("engine=Processes: one exchange at a time; take all replies before the next.")
        assert self._trainer is not None
        if not self._pool:  # they ended with an earlier fit
            self._begin_all()
        self._open = 1
        at = [self._trainer.current_epoch, self._trainer.global_step]
        how = {"at": at, "settings": [c.settings() for c in self._callbacks], "timeout": timeout}
        busy: dict[Worker, tuple[int, float]] = {}
        waiting: dict[Worker, deque[int]] = {}
        for client in messages:
            waiting.setdefault(self._pool[self._place_of(client)], deque()).append(client)

        def send(worker: Worker) -> None:
            if waiting[worker]:
                client = waiting[worker].popleft()
                worker.send({"do": "answer", "verb": verb, "client": client, **how}, pack(messages[client]))
                late = float("inf") if timeout is None else time.monotonic() + timeout + GRACE
                busy[worker] = client, late

        try:
            for worker in waiting:
                if not worker.lives:
                    self._again(worker)
                worker.send({"do": "settle"})
                send(worker)
            while busy:
                soonest = min(late for _, late in busy.values())
                left = None if soonest == float("inf") else max(0.0, soonest - time.monotonic())
                ready = set(wait([w.pipe for w in busy], left))
                for worker, (client, late) in list(busy.items()):
                    if worker.pipe not in ready and time.monotonic() < late:
                        continue
                    del busy[worker]
                    reply = self._take(worker, client, worker.pipe in ready, timeout)
                    send(worker)
                    yield reply
        finally:
            self._open = 0
            for worker in busy:  # whose reply nobody waits for any more
                worker.end()

    def _take(self, worker: Worker, client: int, there: bool, timeout: float | None) -> Reply:
        """The reply of a worker that has answered, has died, or is late; one that lives no more is replaced."""
        if not there:
            worker.end()
            self._again(worker)
            return Reply(client=client, error=f"not done after client_timeout={timeout:g} seconds")
        try:
            reply = unpack(worker.pipe.recv_bytes(), Reply)
        except (EOFError, OSError):
            code = worker.end()
            self._again(worker)
            return Reply(client=client, error=f"its worker process ended (exit code {code})")
        except ValueError as error:
            return Reply(client=client, error=f"what it replied cannot be read: {error}")
        if reply.client != client:
            return Reply(client=client, error=f"its worker process answered for client {reply.client}")
        if self._device.type != "cpu":
            reply.tensors = {g: moved(t, self._device) for g, t in reply.tensors.items()}
            reply.knowledge = moved(reply.knowledge, self._device)
        return reply

    def _again(self, worker: Worker) -> None:
        self._send_job(worker)
        self._await_start(worker)

    def _place_of(self, client: int) -> int:
        ranks = self._trainer.world_size if self._trainer is not None else 1
        return client // ranks % self.workers

    def undo(self, client: int) -> None:
        """See `Engine.undo`."""
        self._pool[self._place_of(client)].send({"do": "undo", "client": client})

    def end_round(self) -> None:
        """Nothing: a message says which round it is."""

    def keep(self, group: str) -> None:
        """See `Engine.keep`."""
        self._store.keep(group)

    def state_dict(self) -> dict[str, Any]:
        """What lies in the clients' files; schedules follow from the number of the round."""
        slots: list[dict[str, Any]] = [
            {"rounds": 0, "groups": [], "scheduler": None, "start": start} for start in self._start
        ]
        return {"clients": self._store.state_dict(), "slots": slots}

    def load_state_dict(self, clients: dict[int, Groups], slots: Sequence[dict[str, Any]] | None) -> None:
        """See `Engine.load_state_dict`."""
        self._store.load_state_dict(clients)
        for kind, slot in enumerate(slots or ()):
            self._start[kind] |= moved(slot.get("start", {}), "cpu")
        body = pack(Message({str(k): s for k, s in enumerate(self._start)}))
        for worker in self._pool:
            worker.send({"do": "start"}, body)

    def close(self) -> None:
        """Ends the processes; what clients keep stays in their files."""
        if not self.keep_processes:
            for worker in self._pool:
                worker.end()
            self._pool = []

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("an engine with processes is not copied: give every Federation one of its own.")


def _start(model: LightningModule, personal: Sequence[str]) -> Tensors:
    """What of a module does not travel with messages: new clients start from it."""
    names = split_names(model, model, personal)
    travels = {*names.shared, *names.buffers}
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: t.detach().cpu().clone() for name, t in tensors.items() if name not in travels}
