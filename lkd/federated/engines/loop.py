"""The in-process engine: clients work one after the other."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lkd.federated.client.host import Host
from lkd.federated.engines.base import Capabilities, Engine
from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.description import Description
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.tensors import Groups, Tensors


class Loop(Engine):
    """Engine that lets clients work one after the other in this process, in the order of the messages.

    It is the reference of all engines.
    """

    capabilities = Capabilities(shares_memory=True)

    def __init__(self) -> None:
        self._data: dict[int, ClientData] = {}
        self._host: Host | None = None
        self._open = 0  # exchanges under way

    @property
    def host(self) -> Host:
        """The client side, in this process.

        Raises:
            RuntimeError: Before `open`.
        """
        if self._host is None:
            raise RuntimeError("an engine has clients once a Federation has opened it.")
        return self._host

    def open(self, description: Description) -> None:
        """Creates the client side, which copies the modules."""
        self._host = Host(description, self._data.__getitem__)

    def prepare(self, trainer: Trainer, anew: bool) -> None:
        """Prepares the modules, optimizers and loops of all architectures."""
        self.host.prepare(trainer, anew)

    def expect(self, clients: Sequence[ClientData]) -> None:
        """Checks the data of all clients for batches of one sample and for plateaus."""
        self.host.expect(clients)

    def check(self, clients: Sequence[ClientData]) -> None:
        """Refuses clients that cannot measure what their plateau waits for."""
        self.host.check_plateaus(clients)

    def enter(self, clients: Sequence[ClientData]) -> None:
        """Takes the data of these clients, and drops those of others."""
        self._data.clear()
        self._data.update({client.id: client for client in clients})

    def exchange(
        self, verb: str, messages: Mapping[int, Message], timeout: float | None = None
    ) -> Iterator[Reply]:
        """Lets the clients work in turn, and yields each reply."""
        if not self._open:  # an outer exchange's answers may still have to be undone
            self.host.settle()
        self._open += 1
        try:
            yield from self._answers(verb, messages, timeout)
        finally:
            self._open -= 1

    def _answers(self, verb: str, messages: Mapping[int, Message], timeout: float | None) -> Iterator[Reply]:
        for client, message in messages.items():
            yield self.host.answer(verb, client, message, timeout)

    def undo(self, client: int) -> None:
        """Restores what a client kept before its last answer."""
        self.host.undo(client)

    def end_round(self) -> None:
        """Steps the schedules that count rounds."""
        self.host.end_round()

    def keep(self, group: str) -> None:
        """Makes all clients forget what they keep, except for one group."""
        self.host.store.keep(group)

    def state_dict(self) -> dict[str, Any]:
        """Returns the clients' states, and schedule and start per architecture."""
        return self.host.state_dict()

    def load_state_dict(self, clients: dict[int, Groups], slots: Sequence[dict[str, Any]] | None) -> None:
        """Restores the clients' part of a checkpoint; without `slots`, schedules begin anew."""
        self.host.load_state_dict(clients, slots)

    @property
    def monitors(self) -> list[tuple[str, str]]:
        """Plateaus and the values that they wait for."""
        found = [(slot.local_optimizer.plateau, type(slot.source).__name__) for slot in self.host.slots]
        return [(f"the plateau of {who}", str(p.configured.monitor)) for p, who in found if p is not None]

    @property
    def modules(self) -> list[LightningModule]:
        """The copies on which clients train; what is attached to them takes part for every client."""
        return [slot.module for slot in self.host.slots]

    def show(self, client: int, x: Tensors, buffers: Tensors) -> AbstractContextManager[LightningModule]:
        """Opens a context with a client's model, see `Verbs.show`."""
        return self.host.show(client, x, buffers)
