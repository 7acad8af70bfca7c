"""What an engine is told of a federation: enough to make its clients, wherever they work."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lightning.pytorch import LightningModule

from lkd.federated.protocol.client_data import kind_of

if TYPE_CHECKING:
    from lkd.federated.algorithms.base import Algorithm


class LocalSettings(NamedTuple):
    """How a client trains, as far as it is the same in every round.

    Attributes:
        accumulate: Batches in an optimizer step.
        clip: Largest norm of a step's gradient; None for no clipping.
        by_epochs: Whether it trains whole epochs.
        most: The most epochs, or steps, of a round.
    """

    accumulate: int = 1
    clip: float | None = None
    by_epochs: bool = True
    most: int = 1


@dataclass
class Description:
    """A federation as its clients see it.

    Attributes:
        models: The modules, one for each architecture, with the weights that clients start from.
        arguments: The user's arguments that these were given as, for messages.
        algorithm: Its client half runs where the clients are.
        local: How they train.
        personal_layers: Patterns of the layers that never leave a client.
        client_models: Architecture of every client, by its id; None for one after the other.
        seed: With the round and the client, where all randomness of a client's work comes from.
    """

    models: Sequence[LightningModule]
    arguments: Sequence[str]
    algorithm: "Algorithm"
    local: LocalSettings = field(default_factory=LocalSettings)
    personal_layers: Sequence[str] = ()
    client_models: Sequence[int] | None = None
    seed: int = 0

    def kind_of(self, client: int) -> int:
        """Which of the models a client has, by its id."""
        return kind_of(client, len(self.models), self.client_models)
