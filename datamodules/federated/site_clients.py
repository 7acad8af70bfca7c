"""Clients whose data are on other machines, known by what their sites say of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from lkd.datamodules.federated.client_sampling import (
    AllClients,
    ClientSampler,
    CohortLoader,
    CohortSampler,
    UniformSampler,
)


class SiteClient:
    """A client whose data are elsewhere; see `lkd.federated.ClientInfo` for the attributes.

    Args:
        id: Its number.
        name: Its name.
        told: What its site says of it.
        total: Number of training samples of all clients.
        population: Number of all clients.
        probability: Chance to be in a cohort.
    """

    # no dataclass: Lightning takes those apart when it moves a batch to a device
    def __init__(
        self,
        id: int,
        name: str,
        told: Mapping[str, Any],
        total: int,
        population: int,
        probability: float = 1.0,
    ) -> None:
        self.id, self.name, self.population, self.probability = id, name, population, probability
        self.num_samples, self.batches = int(told["num_samples"]), int(told["num_batches"])
        self.share, self.parts = self.num_samples / total, tuple(told["parts"])
        self.present, self.public = dict(told.get("present") or {}), None

    def num_batches(self) -> int:
        """Returns the number of training batches in one local epoch."""
        return self.batches

    def has(self, part: str) -> bool:
        """Tells whether it has data of a part."""
        return part in self.parts


class SiteClients(LightningDataModule):
    """Data module of a server without data: its clients are those that the sites of `engine: NVFlare` have.

    There is no validation or test of the server's model then, since there are no data here; `ClientReport`
    and others ask the clients for theirs.

    Args:
        cohort: Who takes part in a round; a number draws that many uniformly, `None` takes every client.
        cohorts_per_epoch: Rounds in an epoch.
        seed: Seed of the cohorts.

    Example:
        >>> data = SiteClients()
        >>> data.take([("C1", {"num_samples": 6, "num_batches": 2, "parts": ["train"]})])
        >>> data.clients[0].share, len(data.clients)
        (1.0, 1)
    """

    def __init__(
        self, cohort: ClientSampler | int | None = None, cohorts_per_epoch: int = 1, seed: int = 0
    ) -> None:
        super().__init__()
        self.cohort = UniformSampler(cohort) if isinstance(cohort, int) else cohort or AllClients()
        self.cohorts_per_epoch, self.seed = cohorts_per_epoch, seed
        self._clients: _SiteClientSet | None = None

    def take(self, told: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Takes what the sites say: for each client, in the order of their numbers, its name and what it has."""
        total = sum(int(one["num_samples"]) for _, one in told)

        def made(probabilities: Sequence[float]) -> _SiteClientSet:
            drawn = zip(told, probabilities, strict=True)
            every = ((k, name, one, total, len(told), float(p)) for k, ((name, one), p) in enumerate(drawn))
            return _SiteClientSet([SiteClient(*each) for each in every])

        some: Any = made([1.0] * len(told))
        self._clients = made(self.cohort.probabilities(some).tolist())

    @property
    def clients(self) -> "_SiteClientSet":
        """All clients.

        Raises:
            RuntimeError: Before an engine has told them.
        """
        if self._clients is None:
            raise RuntimeError(
                "data=SiteClients: who the clients are is told by the sites; run it with engine=NVFlare."
            )
        return self._clients

    def train_dataloader(self) -> DataLoader:
        """Returns cohorts: lists of clients in ascending order."""
        clients: Any = self.clients
        return CohortLoader(CohortSampler(clients, self.cohort, self.cohorts_per_epoch, self.seed))


class _SiteClientSet(Dataset[Any]):
    def __init__(self, clients: Sequence[SiteClient]) -> None:
        self._all = clients
        self.names = [client.name for client in clients]
        self.sizes = np.array([client.num_samples for client in clients])
        self.public = None

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, index: int | list[int]) -> Any:
        return [self._all[k] for k in index] if isinstance(index, list) else self._all[index]
