"""The base of engines, which bring messages to clients, wherever they work, and replies back."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.description import Description
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.tensors import Groups, Tensors


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do.

    Attributes:
        shares_memory: Whether clients work in this process, so that callbacks may look at their modules.
        stacks: Whether it trains the clients of a cohort together, stacked.
    """

    shares_memory: bool
    stacks: bool = False


class Engine(ABC):
    """Base of engines: one call, `exchange`, carries all messages between server and clients.

    The other methods begin and end a fit, and read and write the clients' part of a checkpoint.
    """

    capabilities: Capabilities

    @abstractmethod
    def open(self, description: Description) -> None:
        """Takes the description of the federation, before anything is trained.

        Args:
            description: The federation.
        """

    def meet(self, trainer: Trainer) -> None:  # noqa: B027 (for those that make data of their own)
        """Sees the Trainer before its data are set up; called first in every fit, validation and test."""

    @abstractmethod
    def prepare(self, trainer: Trainer, anew: bool) -> None:
        """Makes the clients ready to train or to be measured.

        Args:
            trainer: The federation's Trainer.
            anew: Whether schedules begin anew; else they continue from a fit with another Trainer.

        Raises:
            ValueError: If a client could not do what the federation asks.
        """

    @abstractmethod
    def expect(self, clients: Sequence[ClientData]) -> None:
        """Checks the data of all clients before the first round.

        Args:
            clients: All clients whose data are in this process.

        Raises:
            ValueError: If a client could not do what will be asked of it.
        """

    @abstractmethod
    def check(self, clients: Sequence[ClientData]) -> None:
        """Refuses, in the first round, clients that cannot measure what their scheduler waits for.

        Args:
            clients: The cohort.

        Raises:
            ValueError: If there is such a client; the message names it.
        """

    @abstractmethod
    def enter(self, clients: Sequence[ClientData]) -> None:
        """Takes the data of the clients that may be asked next, if it shares memory with their owner."""

    @abstractmethod
    def exchange(
        self, verb: str, messages: Mapping[int, Message], timeout: float | None = None
    ) -> Iterator[Reply]:
        """Sends clients their messages and yields the replies as they arrive, in any order.

        A client that fails or is late yields a reply with an `error`, never an exception.

        Args:
            verb: `"train"`, `"gradient"`, `"evaluate"`, `"count"`, or a method of the algorithm's client
                half.
            messages: Message to each client, by its id.
            timeout: Seconds that a client may take. Default: no limit.
        """

    @abstractmethod
    def undo(self, client: int) -> None:
        """Restores what a client kept before its last answer, which the server does not accept."""

    def end_round(self) -> None:  # noqa: B027 (nothing to do for an engine whose clients count for themselves)
        """Steps the schedules that count rounds."""

    @abstractmethod
    def keep(self, group: str) -> None:
        """Makes all clients forget what they keep, except for one group of tensors."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Returns the clients' states (`"clients"`, by id), and of each architecture its `"slots"`."""

    @abstractmethod
    def load_state_dict(self, clients: dict[int, Groups], slots: Sequence[dict[str, Any]] | None) -> None:
        """Restores the clients' part of a checkpoint; without `slots`, schedules begin anew."""

    def show(self, client: int, x: Tensors, buffers: Tensors) -> AbstractContextManager[LightningModule]:
        """Opens a context with a client's model, for looking at in this process.

        Args:
            client: Id of the client.
            x: The server's weights for its architecture, by the architecture's own names.
            buffers: The server's buffers, likewise.

        Raises:
            RuntimeError: If clients work in other processes.
        """
        raise RuntimeError(self._elsewhere)

    @property
    def monitors(self) -> list[tuple[str, str]]:
        """What waits for which value of the clients, as far as this process knows."""
        return []

    def require_shared_memory(self, who: str) -> None:
        """Refuses a callback that looks at clients' modules, if they are in other processes.

        Args:
            who: Name of the callback, for the message.

        Raises:
            RuntimeError: If clients work in other processes.
        """
        if not self.capabilities.shares_memory:
            raise RuntimeError(
                f"engine={type(self).__name__}: its clients work in other processes, where {who} cannot look; leave it out, or take "
                "engine=Loop()."
            )

    @property
    def _elsewhere(self) -> str:
        return (
            f"engine={type(self).__name__}: its clients work in other processes, so nothing here can look at their modules; leave out "
            "what does, or take engine=Loop()."
        )

    @property
    def modules(self) -> list[LightningModule]:
        """The modules that clients train, one for each architecture, for callbacks in this process.

        Raises:
            RuntimeError: If clients work in other processes.
        """
        raise RuntimeError(self._elsewhere)

    def close(self) -> None:  # noqa: B027 (nothing to end)
        """Ends what the engine has started."""
