"""Who of a cohort takes part in a round, and how much each of them works."""

from collections.abc import Sequence

from lkd.federated.protocol.client_data import ClientInfo
from lkd.federated.protocol.seeds import derive
from lkd.federated.server.heterogeneity import SystemHeterogeneity
from lkd.federated.server.local_work import FINE, LocalTraining

WORK = 1
"""Which stream of a client's randomness says how much it works; its training has the stream without a number."""


class Plan:
    """What is settled before a round begins.

    Args:
        index: Number of the round, from 0.
        cohort: Who was drawn.
        local: What is asked of a client.
        heterogeneity: What comes in between. Default: nothing.
        seed: The federation's.

    Attributes:
        present: Those of the cohort that can be reached and whose reply will arrive.
        speeds: Of the clients' machines, where they differ.
    """

    def __init__(
        self,
        index: int,
        cohort: Sequence[ClientInfo],
        local: LocalTraining,
        heterogeneity: SystemHeterogeneity | None,
        seed: int,
    ) -> None:
        self._index, self._work, self._seed = index, local, seed
        self._fates = heterogeneity.plan(index, [client.id for client in cohort]) if heterogeneity else {}
        self.present = [client for client in cohort if self._replies(client)]
        self.speeds = {client: fate.speed for client, fate in self._fates.items()}

    def _replies(self, client: ClientInfo) -> bool:
        fate = self._fates.get(client.id, FINE)
        return fate.available and not fate.dropped

    def steps(self, client: ClientInfo) -> int:
        """Optimizer steps that a client makes."""
        seed = derive(self._seed, self._index, client.id, WORK)
        return self._work.draw(client.num_batches, seed, self._fates.get(client.id, FINE))
