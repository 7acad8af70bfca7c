"""The two baselines that every study needs: no exchange, and all data in one place."""

from typing import TYPE_CHECKING

from lkd.federated.algorithms.base import Algorithm
from lkd.federated.protocol.tensors import Tensors

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


class Local(Algorithm):
    """Baseline without exchange: every client trains alone.

    All layers are the client's own, so only the clients' models on the clients' data can be measured
    (`ClientReport`). The server's model stays untrained. Travels: nothing.
    """

    stacks = True

    aggregates_weights = False
    supports_multiple_models = True


class Centralized(Algorithm):
    """Baseline with pooled data: one model is trained on the data of the whole cohort.

    The optimizer begins anew every round, as a client's does, and a `LocalTraining(epochs=1)` is one pass
    over the pooled data. Travels: nothing that a federation would have to send. The bytes that are counted
    are those of one client.
    """

    pools_data = True

    def round(self, server: "ServerRound") -> Tensors:
        """Trains on the pooled data, and returns the change of the weights."""
        return server.mean(server.train_pooled())["delta"]
