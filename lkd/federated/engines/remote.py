"""What engines have in common whose clients work in other processes, each of which works for its share."""

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

import torch
from lightning.pytorch import LightningModule, Trainer

from lkd.federated.engines.base import Capabilities, Engine
from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.tensor_names import split_names
from lkd.federated.protocol.tensors import Tensors, moved
from lkd.federated.protocol.wire import pack

GRACE = 10.0
"""Seconds beyond a client's time limit after which its process is given up, if it does not answer."""


class Channel(Protocol):
    """Protocol of what works for a share of the clients, one at a time.

    Attributes:
        pipe: Where its replies come in.
    """

    pipe: Connection

    @property
    def lives(self) -> bool:
        """Whether it can be asked."""

    def send(self, command: dict[str, Any], body: bytes = b"") -> None:
        """Sends a command; if nobody is there any more, that is noticed when it should answer."""

    def read(self) -> Reply:
        """Reads the reply that has come in; EOFError or OSError if it is gone, ValueError for no reply."""

    def end(self) -> str:
        """Gives it up; returns what became of it."""


class RemoteEngine(Engine):
    """Base of engines that ask processes elsewhere; one exchange at a time."""

    capabilities = Capabilities(shares_memory=False)

    def __init__(self) -> None:
        self._trainer: Trainer | None = None
        self._device = torch.device("cpu")
        self._callbacks: list[Any] = []  # whose settings travel with every message
        self._open = 0
        self._busy: dict[Channel, tuple[int, float]] = {}  # client of each that works, and when it is late

    @abstractmethod
    def _ready(self) -> None:
        """Makes sure, before an exchange, that those who can work do."""

    @abstractmethod
    def _who(self, client: int) -> Channel | None:
        """Returns who works for a client; None if nobody does at present."""

    @abstractmethod
    def _again(self, channel: Channel) -> None:
        """Tries to replace one that is gone, so that it works for its next client."""

    @abstractmethod
    def _absent(self, client: int) -> str:
        """Says why nobody works for a client."""

    def expect(self, clients: Sequence[ClientData]) -> None:
        """Does nothing: each process has checked all clients when it started."""

    def check(self, clients: Sequence[ClientData]) -> None:
        """Does nothing: each process has checked all clients when it started."""

    def enter(self, clients: Sequence[ClientData]) -> None:
        """Does nothing: the data stay in the processes."""

    def end_round(self) -> None:
        """Does nothing: each message says which round it is."""

    def exchange(
        self, verb: str, messages: Mapping[int, Message], timeout: float | None = None
    ) -> Iterator[Reply]:
        """Sends clients their messages and yields the replies; processes work side by side.

        Raises:
            RuntimeError: If another exchange is not finished.
        """
        if self._open:
            raise RuntimeError(
                f"engine={type(self).__name__}: one exchange at a time; take all replies before the next."
            )
        assert self._trainer is not None
        self._ready()
        self._open = 1
        at = [self._trainer.current_epoch, self._trainer.global_step]
        how = {"at": at, "settings": [c.settings() for c in self._callbacks], "timeout": timeout}
        busy = self._busy = {}
        waiting: dict[Channel, deque[int]] = {}
        absent: list[int] = []
        for client in messages:
            if (channel := self._who(client)) is None:
                absent.append(client)
            else:
                waiting.setdefault(channel, deque()).append(client)

        def send(channel: Channel, first: bool = False) -> None:
            while waiting[channel]:
                client = waiting[channel].popleft()
                if not channel.lives:
                    absent.append(client)
                    continue
                command = {"do": "answer", "verb": verb, "client": client, "first": first, **how}
                channel.send(command, pack(messages[client]))
                late = float("inf") if timeout is None else time.monotonic() + timeout + GRACE
                busy[channel] = client, late
                return

        try:
            for channel in waiting:
                if not channel.lives:
                    self._again(channel)
                send(channel, first=True)
            while busy:
                soonest = min(late for _, late in busy.values())
                left = None if soonest == float("inf") else max(0.0, soonest - time.monotonic())
                ready = set(wait([channel.pipe for channel in busy], left))
                for channel, (client, late) in list(busy.items()):
                    if channel.pipe not in ready and time.monotonic() < late:
                        continue
                    del busy[channel]
                    reply = self._take(channel, client, channel.pipe in ready, timeout)
                    send(channel)
                    yield reply
            for client in absent:
                yield Reply(client=client, error=self._absent(client))
        finally:
            self._open = 0
            for channel in busy:  # nobody waits for these replies any more
                channel.end()

    def _stop(self) -> None:
        """Gives up an exchange that an error has cut short, whose replies nobody reads any more."""
        for channel in self._busy:
            channel.end()
        self._busy, self._open = {}, 0

    def _take(self, channel: Channel, client: int, there: bool, timeout: float | None) -> Reply:
        """Returns the reply of one that has answered, died or is late; replaces one that is gone."""
        if not there:
            channel.end()
            self._again(channel)
            return Reply(client=client, error=f"not done after client_timeout={timeout:g} seconds")
        try:
            reply = channel.read()
        except (EOFError, OSError):
            what = channel.end()
            self._again(channel)
            return Reply(client=client, error=what)
        except ValueError as error:
            return Reply(client=client, error=f"what it replied cannot be read: {error}")
        if reply.client != client:
            return Reply(client=client, error=f"its worker process answered for client {reply.client}")
        if self._device.type != "cpu":
            reply.tensors = {g: moved(t, self._device) for g, t in reply.tensors.items()}
            reply.knowledge = moved(reply.knowledge, self._device)
        return reply


def start_of(model: LightningModule, personal: Sequence[str]) -> Tensors:
    """Returns the tensors of a module that do not travel with messages; new clients start from them."""
    names = split_names(model, model, personal)
    travels = {*names.shared, *names.buffers}
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: t.detach().cpu().clone() for name, t in tensors.items() if name not in travels}
