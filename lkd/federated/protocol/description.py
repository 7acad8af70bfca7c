"""Description of a federation for an engine: enough to create its clients, wherever they work."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from lightning.pytorch import LightningModule

from lkd.federated.codecs.base import Codec
from lkd.federated.privacy.client_dp import ClientDP
from lkd.federated.protocol.client_data import kind_of

if TYPE_CHECKING:
    from lkd.federated.algorithms.base import Algorithm


class LocalSettings(NamedTuple):
    """Settings of local training that are the same in every round.

    Attributes:
        accumulate: Batches per optimizer step.
        clip: Largest norm of a step's gradient; None for no clipping.
        by_epochs: Whether clients train whole epochs.
        most: Largest number of epochs, or steps, in a round.
    """

    accumulate: int = 1
    clip: float | None = None
    by_epochs: bool = True
    most: int = 1


@dataclass
class Description:
    """Description of a federation for its clients.

    Attributes:
        models: The modules, one for each architecture, with the weights that clients start from.
        arguments: Names of the user's arguments that held the modules, for messages.
        algorithm: The algorithm; its client half runs where the clients are.
        local: Settings of local training.
        personal_layers: Patterns of the layers that never leave a client.
        client_models: Architecture of every client, by its id; None for turns.
        seed: Seed of the federation. All randomness of a client's work comes from it, the round and the
            client.
        codec: Form in which changes of the weights travel to the server; None: as they are.
        privacy: How far a client's change is clipped before; None: not at all.
    """

    models: Sequence[LightningModule]
    arguments: Sequence[str]
    algorithm: "Algorithm"
    local: LocalSettings = field(default_factory=LocalSettings)
    personal_layers: Sequence[str] = ()
    client_models: Sequence[int] | None = None
    seed: int = 0
    codec: Codec | None = None
    privacy: ClientDP | None = None

    def kind_of(self, client: int) -> int:
        """Returns the architecture of a client, by its id."""
        return kind_of(client, len(self.models), self.client_models)

    def summary(self, modules: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Returns as plain values what must be the same at server and client.

        Args:
            modules: Shape and type of all tensors that travel, by name, of each architecture.
        """
        return {
            "algorithm": type(self.algorithm).__name__,
            "local": list(self.local),
            "personal_layers": list(self.personal_layers),
            "client_models": None if self.client_models is None else list(self.client_models),
            "seed": self.seed,
            "codec": None if self.codec is None else repr(self.codec),
            "privacy": None if self.privacy is None else repr(self.privacy),
            "modules": list(modules),
        }
