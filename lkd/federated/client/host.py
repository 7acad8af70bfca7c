"""Host of the clients of one process; each works in turn on its architecture's copy of the module."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from lkd.federated.client.checks import require_descent
from lkd.federated.client.clock import Clock
from lkd.federated.client.encoding import encoded
from lkd.federated.client.model_slot import ModelSlot
from lkd.federated.client.own_inputs import calls_forward, warn_of_own_inputs
from lkd.federated.client.single_samples import LoneSampleError, lone_clients, normalizes
from lkd.federated.client.state import ClientStore
from lkd.federated.client.verbs import CODE, Verbs
from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.description import Description
from lkd.federated.protocol.messages import Message, RefusalError, Reply
from lkd.federated.protocol.tensors import Groups, Tensors


class Host:
    """The client side of a federation in one process.

    Args:
        description: The federation.
        data: Gives a client's data by its id.
        store: Holds the clients' states. Default: in memory.
    """

    def __init__(
        self, description: Description, data: Callable[[int], ClientData], store: ClientStore | None = None
    ) -> None:
        self.description, self._data_of = description, data
        self.slots = [
            ModelSlot(model, description.personal_layers, argument)
            for model, argument in zip(description.models, description.arguments, strict=True)
        ]
        self.algorithm, self.seed, self.kind_of = description.algorithm, description.seed, description.kind_of
        self.store, self.clock = ClientStore() if store is None else store, Clock()
        self.verbs = Verbs(description, self.slots, self.store)

    def prepare(self, trainer: Trainer, anew: bool) -> None:
        """Prepares modules, optimizers and loops.

        Args:
            trainer: The federation's Trainer, or one like it.
            anew: Whether schedules begin anew; else they continue from a fit with another Trainer.

        Raises:
            ValueError: If a client could not do what the federation asks.
        """
        local = self.description.local
        for slot in self.slots:
            slot.prepare(trainer, local.accumulate, local.clip, anew)
            slot.loop.clock = self.clock
            if self.algorithm.attaches:  # it adds a loss, which is to become small
                require_descent(type(self.algorithm).__name__, slot.local_optimizer.optimizer)
            self.algorithm.check(slot.local_optimizer.optimizer, local.clip, slot.local_optimizer.by_step)

    def expect(self, clients: Sequence[ClientData]) -> None:
        """Looks at all clients before the first round, for batches of one sample and for plateaus.

        Batches of one sample are refused in the first round, where the module cannot take them.

        Args:
            clients: All clients.

        Raises:
            ValueError: If a client cannot measure the value that its scheduler waits for.
        """
        kinds = [kind for kind, slot in enumerate(self.slots) if normalizes(slot.module)]
        self.verbs.lone = lone_clients(kinds, self.kind_of, clients, self.description.local)
        self.check_plateaus(clients)

    def check_plateaus(self, clients: Iterable[ClientData]) -> None:
        """Refuses schedulers that wait for a validation value at clients without validation data.

        Args:
            clients: The clients to check.

        Raises:
            ValueError: If there is such a client; the message names it.
        """
        for kind, slot in enumerate(self.slots):
            if (plateau := slot.local_optimizer.plateau) is not None:
                plateau.check(slot.source, (c for c in clients if self.kind_of(c.id) == kind))

    def answer(self, verb: str, client: int, message: Message, timeout: float | None = None) -> Reply:
        """Runs a client's work; an exception becomes a reply with an `error`.

        Args:
            verb: `"train"`, `"gradient"`, `"evaluate"`, `"count"`, or a method of the algorithm.
            client: Id of the client.
            message: Message to the client. Its config holds `round`, and for training also `steps`.
            timeout: Seconds that the work may take. Default: no limit.
        """
        started = time.perf_counter()
        self.remember(client)
        try:
            data = self.data(client, message)
            self._attach(data)
            with self.clock.running(timeout):
                reply = self.encoded(verb, client, self.verbs(verb, data, message))
        except Exception as error:
            self.undo(client)  # its change may have been kept before it could be encoded
            reply = failed(error)
        reply.client, reply.round = client, message.config.get("round", -1)
        reply.seconds = time.perf_counter() - started
        return reply

    def encoded(self, verb: str, client: int, reply: Reply) -> Reply:
        """Clips the reply of a client that has trained, and puts it into the form in which it travels."""
        codec, privacy = self.description.codec, self.description.privacy
        if privacy is not None and verb == "train" and not reply.error:
            with torch.no_grad():
                privacy.limit(reply)
        if codec is not None and verb == "train" and not reply.error:
            state = self.store.get(client)
            with torch.no_grad():
                reply.tensors, kept = encoded(codec, reply.tensors, state.get(CODE, {}))
            if kept or CODE in state:
                self.store.put(client, {**state, CODE: kept})
        return reply

    def remember(self, client: int) -> None:
        """Notes what a client keeps, before an answer that may be undone."""
        self.store.remember(client)

    def settle(self) -> None:
        """Accepts all answers so far, so that none of them can be undone."""
        self.store.settle()

    def undo(self, client: int, mark: int | None = None) -> None:
        """Restores what a client kept before its last answer, if the server rejects it; see `ClientStore.undo`."""
        self.store.undo(client, mark)

    def data(self, client: int, message: Message) -> ClientData:
        """Returns a client's data, pooled with those of `others` in the message's config, if any."""
        data = self._data_of(client)
        others = message.config.get("others")
        return data if others is None else data.pooled([self._data_of(other) for other in others])

    def _attach(self, client: ClientData) -> None:
        """Lets an algorithm that changes the loss do so, once for every module."""
        slot = self.slots[self.kind_of(client.id)]
        if slot.attached:
            return
        if self.algorithm.attaches or calls_forward(self.algorithm):
            try:
                example = slot.loop.on_device(next(iter(client.train_batches(self.seed))))
                warn_of_own_inputs(self.algorithm, slot.module, example)
                self.algorithm.attach(slot.module, example)
            except Exception as error:  # such as a missing layer, which is missing at every client
                raise _RefusedError(error) from error
        slot.attached = True

    def show(self, client: int, x: Tensors, buffers: Tensors) -> AbstractContextManager[LightningModule]:
        """Opens a context with a client's model, see `Verbs.show`."""
        return self.verbs.show(client, x, buffers)

    def example(self, client: int) -> Any:
        """Returns a training batch of a client."""
        return next(iter(self._data_of(client).train_batches(self.seed)))

    def end_round(self) -> None:
        """Steps the schedules that count rounds."""
        for slot in self.slots:
            slot.local_optimizer.end_round()

    def state_dict(self, whole: bool = False) -> dict[str, Any]:
        """Returns the clients' states, the schedules, and what new clients start from.

        Args:
            whole: Whether to give all tensors of the start. Default: only those that differ from the server's
                modules, which are in this process.
        """
        slots = [
            {**slot.local_optimizer.state_dict(), "start": slot.worker.start(None if whole else slot.source)}
            for slot in self.slots
        ]
        return {"clients": self.store.state_dict(), "slots": slots}

    def load_state_dict(self, clients: dict[int, Groups], slots: Sequence[dict[str, Any]] | None) -> None:
        """Restores an interrupted run.

        Args:
            clients: States of the clients of this process.
            slots: The schedules, and what new clients start from; None if they begin anew.
        """
        self.store.load_state_dict(clients)
        for slot, state in zip(self.slots, slots, strict=True) if slots is not None else ():
            slot.local_optimizer.load_state_dict(state)
            slot.worker.set_start(state.get("start", {}))


def failed(error: Exception) -> Reply:
    """Makes the reply of a client whose work has failed."""
    if isinstance(error, _RefusedError):
        return Reply(error=str(error.error), refused=True, cause=error.error)
    if isinstance(error, RefusalError | LoneSampleError):  # a mistake in the setup, so the run cannot go on
        return Reply(error=str(error), refused=True, cause=error)
    return Reply(error=f"{type(error).__name__}: {error}".splitlines()[0], cause=error)


class _RefusedError(Exception):
    """Wrapper of an error that makes the whole run impossible."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error
