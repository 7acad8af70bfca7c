"""What an engine is: it brings messages to clients, wherever they work, and their replies back."""

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
        stacks: Whether it trains a cohort as one.
    """

    shares_memory: bool
    stacks: bool = False


class Engine(ABC):
    """Between server and clients: one call, `exchange`, passes all that they tell each other.

    The other methods say when a fit begins and ends, and what a checkpoint has to hold of the clients.
    """

    capabilities: Capabilities

    @abstractmethod
    def open(self, description: Description) -> None:
        """Learns who the clients are; nothing is trained yet.

        Args:
            description: The federation.
        """

    def meet(self, trainer: Trainer) -> None:  # noqa: B027 (for those that make data of their own)
        """Sees the Trainer before its data are set up; the first hook of every fit, validation and test."""

    @abstractmethod
    def prepare(self, trainer: Trainer, anew: bool) -> None:
        """Makes the clients ready to train or to be measured.

        Args:
            trainer: The federation's.
            anew: Whether schedules begin; else they stay where a fit of another Trainer left them.

        Raises:
            ValueError: For what a client could not do.
        """

    @abstractmethod
    def expect(self, clients: Sequence[ClientData]) -> None:
        """Looks, before the first round, at what all clients hold.

        Args:
            clients: All of them, where this process has their data.

        Raises:
            ValueError: If a client could not do what will be asked of it.
        """

    @abstractmethod
    def check(self, clients: Sequence[ClientData]) -> None:
        """Refuses, in the first round, a cohort with a client that could not measure what its scheduler waits for.

        Raises:
            ValueError: With the client.
        """

    @abstractmethod
    def enter(self, clients: Sequence[ClientData]) -> None:
        """Takes the data of clients that may be asked next, where it shares memory with who has them."""

    @abstractmethod
    def exchange(
        self, verb: str, messages: Mapping[int, Message], timeout: float | None = None
    ) -> Iterator[Reply]:
        """Sends clients their messages and yields the replies as they arrive, in any order.

        A client that fails or is late yields a reply with an `error`, never an exception.

        Args:
            verb: `"train"`, `"gradient"`, `"evaluate"`, `"count"`, or a method of the algorithm's client half.
            messages: What each is sent, by its id.
            timeout: Seconds that a client may take. Default: any time.
        """

    @abstractmethod
    def undo(self, client: int) -> None:
        """Puts back what a client kept before its last answer, which the server does not take."""

    def end_round(self) -> None:  # noqa: B027 (nothing to do for an engine whose clients count for themselves)
        """Schedules that count rounds go on."""

    @abstractmethod
    def keep(self, group: str) -> None:
        """Lets all clients forget what they keep but for one group of tensors."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What clients keep (`"clients"`, by id), and of every architecture the schedule and the start (`"slots"`)."""

    @abstractmethod
    def load_state_dict(self, clients: dict[int, Groups], slots: Sequence[dict[str, Any]] | None) -> None:
        """Hands back what a checkpoint holds of clients; without `slots`, schedules begin anew."""

    def show(self, client: int, x: Tensors, buffers: Tensors) -> AbstractContextManager[LightningModule]:
        """Within, a client's model, to be looked at by this process alone.

        Args:
            client: Its id.
            x: The server's weights that its architecture has, by its own names.
            buffers: The same of the buffers.

        Raises:
            RuntimeError: If it is elsewhere.
        """
        raise RuntimeError(self._elsewhere)

    @property
    def monitors(self) -> list[tuple[str, str]]:
        """Who waits for which value at the clients, as far as this process knows."""
        return []

    def require_shared_memory(self, who: str) -> None:
        """Refuses a callback that looks at what clients do, where they do it elsewhere.

        Args:
            who: What looks, for the message.

        Raises:
            RuntimeError: If they do.
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
        """The modules that clients train, one for each architecture: for callbacks of this process alone.

        Raises:
            RuntimeError: If they are elsewhere.
        """
        raise RuntimeError(self._elsewhere)

    def close(self) -> None:  # noqa: B027 (nothing to end)
        """Ends what was begun."""
