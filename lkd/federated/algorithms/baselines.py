"""The two baselines that every study needs: no exchange, and all data in one place."""

from typing import TYPE_CHECKING

from lkd.federated.algorithms.base import Algorithm
from lkd.federated.protocol.tensors import Tensors

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


class Local(Algorithm):
    """Every client trains alone; nothing travels.

    All layers are the client's own, so what there is to measure are the clients' models on the clients' data
    (`ClientReport`); the server's model stays the untrained start.
    """

    aggregates_weights = False
    supports_multiple_models = True


class Centralized(Algorithm):
    """One model on the pooled data of the whole cohort: what federated learning is measured against.

    The optimizer begins anew every round, as a client's does, and a `LocalTraining(epochs=1)` is one pass over
    the pooled data. Travels: nothing that a federation would have to send; the bytes that are counted are those of
    one client.
    """

    def round(self, server: "ServerRound") -> Tensors:
        """Trains on the pooled data."""
        return server.mean(server.train_pooled())["delta"]
