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
    """Lets clients work one after the other in this process, in the order of the messages. The reference of all engines."""

    capabilities = Capabilities(shares_memory=True)

    def __init__(self) -> None:
        self._data: dict[int, ClientData] = {}
        self._host: Host | None = None
        self._open = 0  # exchanges under way

    @property
    def host(self) -> Host:
        """The client side.

        Raises:
            RuntimeError: Before `open`.
        """
        if self._host is None:
            raise RuntimeError("an engine has clients once a Federation has opened it.")
        return self._host

    def open(self, description: Description) -> None:
        """Copies the modules."""
        self._host = Host(description, self._data.__getitem__)

    def prepare(self, trainer: Trainer, anew: bool) -> None:
        """See `Engine.prepare`."""
        self.host.prepare(trainer, anew)

    def expect(self, clients: Sequence[ClientData]) -> None:
        """See `Engine.expect`."""
        self.host.expect(clients)

    def check(self, clients: Sequence[ClientData]) -> None:
        """See `Engine.check`."""
        self.host.check_plateaus(clients)

    def enter(self, clients: Sequence[ClientData]) -> None:
        """Holds the data of these clients, and of no others."""
        self._data.clear()
        self._data.update({client.id: client for client in clients})

    def exchange(
        self, verb: str, messages: Mapping[int, Message], timeout: float | None = None
    ) -> Iterator[Reply]:
        """See `Engine.exchange`."""
        if not self._open:  # else what another exchange has brought may yet be put back
            self.host.settle()
        self._open += 1
        try:
            for client, message in messages.items():
                yield self.host.answer(verb, client, message, timeout)
        finally:
            self._open -= 1

    def undo(self, client: int) -> None:
        """See `Engine.undo`."""
        self.host.undo(client)

    def end_round(self) -> None:
        """See `Engine.end_round`."""
        self.host.end_round()

    def keep(self, group: str) -> None:
        """See `Engine.keep`."""
        self.host.store.keep(group)

    def state_dict(self) -> dict[str, Any]:
        """See `Engine.state_dict`."""
        return self.host.state_dict()

    def load_state_dict(self, clients: dict[int, Groups], slots: Sequence[dict[str, Any]] | None) -> None:
        """See `Engine.load_state_dict`."""
        self.host.load_state_dict(clients, slots)

    @property
    def monitors(self) -> list[tuple[str, str]]:
        """See `Engine.monitors`."""
        found = [(slot.local_optimizer.plateau, type(slot.source).__name__) for slot in self.host.slots]
        return [(f"the plateau of {who}", str(p.configured.monitor)) for p, who in found if p is not None]

    @property
    def modules(self) -> list[LightningModule]:
        """The copies that train; what is attached to them takes part in every client."""
        return [slot.module for slot in self.host.slots]

    def show(self, client: int, x: Tensors, buffers: Tensors) -> AbstractContextManager[LightningModule]:
        """See `Host.show`."""
        return self.host.show(client, x, buffers)
