"""The clients of a cohort that take part in a round, and the amount of their work."""

from collections.abc import Sequence

from lkd.federated.protocol.client_data import ClientInfo
from lkd.federated.protocol.seeds import derive
from lkd.federated.server.heterogeneity import SystemHeterogeneity
from lkd.federated.server.local_work import FINE, LocalTraining

WORK = 1
"""Number of the random stream that sets a client's amount of work; its training uses no such number."""


class Plan:
    """Plan of a round, made before it begins.

    Args:
        index: Number of the round, from 0.
        cohort: The clients that were drawn.
        local: Amount of local training.
        heterogeneity: What stragglers and lost replies change. Default: nothing.
        seed: Seed of the federation.

    Attributes:
        present: Clients of the cohort that can be reached and whose reply will arrive.
        speeds: Speeds of the clients' machines, where they differ.
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
        """Returns the optimizer steps that a client makes."""
        draws = self._work.low < self._work.high  # else no seed is needed, which costs as much as the rest
        seed = derive(self._seed, self._index, client.id, WORK) if draws else 0
        return self._work.draw(client.num_batches, seed, self._fates.get(client.id, FINE))
