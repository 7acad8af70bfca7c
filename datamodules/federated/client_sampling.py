"""Who takes part in a round: strategies that draw a cohort of clients, and the sampler that asks them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler

from lkd.checks import expect
from lkd.datamodules.federated.client_data import Population
from lkd.datamodules.federated.sampling_scheme import Sampling
from lkd.datamodules.samples.samplers import EpochLoader
from lkd.datamodules.samples.splits import pick

STREAM = 0x436F686F7274  # keeps these draws apart from all others that are made from (seed, round, ...)


class ClientSampler(ABC):
    """Strategy that draws the clients of one round with `draw`."""

    @abstractmethod
    def draw(self, clients: Population, rng: np.random.Generator) -> np.ndarray:
        """Draws different client ids (size,) in any order, a function of `rng` alone."""

    @abstractmethod
    def probabilities(self, clients: Population) -> np.ndarray:
        """Returns every client's chance (clients,) to be drawn in a round.

        Raises:
            ValueError: if this population cannot give such a cohort.
        """

    def sampling(self, clients: Population) -> Sampling | None:
        """Describes the draw for privacy accounting; `None` where that knows no bound for it."""
        return None


class AllClients(ClientSampler):
    """Sampler that takes every client in every round."""

    def draw(self, clients: Population, rng: np.random.Generator) -> np.ndarray:
        """Returns the ids of all clients."""
        return np.arange(len(clients))

    def probabilities(self, clients: Population) -> np.ndarray:
        """Returns a chance of 1 for every client."""
        return np.ones(len(clients))

    def sampling(self, clients: Population) -> Sampling | None:
        """Describes the draw for privacy accounting."""
        return Sampling("always", len(clients), len(clients))


class UniformSampler(ClientSampler):
    """Sampler of `size` clients without replacement, all with the same chance size/clients.

    Args:
        size: clients in a round.

    Raises:
        ValueError: if it is below 1, or (when it is used) above the number of clients.
    """

    def __init__(self, size: int) -> None:
        expect(size=size, ge=1, why="it is the number of clients in a cohort")
        self.size = size

    def draw(self, clients: Population, rng: np.random.Generator) -> np.ndarray:
        """Draws ids in time and memory of the cohort's size, not of the population's."""
        return rng.choice(len(clients), self.size, replace=False, shuffle=False)

    def probabilities(self, clients: Population) -> np.ndarray:
        """Returns the same chance for every client."""
        _check(self.size, clients)
        return np.full(len(clients), self.size / len(clients))

    def sampling(self, clients: Population) -> Sampling | None:
        """Describes the draw for privacy accounting."""
        return Sampling("fixed", self.size, len(clients))


class WeightedSampler(UniformSampler):
    """Sampler of `size` clients without replacement, client i with chance min(1, c n_i), exactly.

    n_i is its number of training samples, and c makes the chances add up to `size`; c is size/n if no client
    is large enough to be drawn always. This is systematic sampling over a freshly shuffled list (Madow 1949)
    in whole numbers, so that the chances hold exactly, as weights p_i/pi_i need. Drawing one by one without
    replacement would not give them.

    Args:
        size: clients in a round.

    Raises:
        ValueError: as in `UniformSampler`.
    """

    def draw(self, clients: Population, rng: np.random.Generator) -> np.ndarray:
        """Draws the clients that are always in, and a systematic sample of the others."""
        always, others, left, total = self._divide(clients.sizes)
        others = rng.permutation(others)
        ends = np.cumsum(clients.sizes[others] * left)  # every point i * total + u falls to another client
        points = np.arange(left) * total + (rng.integers(total) if left else 0)
        return np.concatenate([always, others[np.searchsorted(ends, points, side="right")]])

    def probabilities(self, clients: Population) -> np.ndarray:
        """Returns chances in proportion to samples, at most 1."""
        _check(self.size, clients)
        _, others, left, total = self._divide(clients.sizes)
        chances = np.ones(len(clients))
        chances[others] = clients.sizes[others] * left / max(total, 1)
        return chances

    def sampling(self, clients: Population) -> Sampling | None:
        """Returns None: chances differ, and no bound is known here."""
        return None

    def _divide(self, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, int]:
        """Returns the ids that are always drawn, the others, how many others are drawn, and their samples."""
        always = np.zeros(len(sizes), dtype=bool)
        while True:
            left, total = self.size - int(always.sum()), int(sizes[~always].sum())
            more = ~always & (sizes * left >= total)
            if not left or not more.any():
                return np.flatnonzero(always), np.flatnonzero(~always), left, total
            always |= more


class FixedSampler(ClientSampler):
    """Sampler that takes the same clients in every round.

    Args:
        clients: numbers or names, such as `["C1", "C4"]`.

    Raises:
        ValueError: if it names nobody, or (when it is used) a client that does not exist.
    """

    def __init__(self, clients: Sequence[int | str]) -> None:
        if not clients or len(set(clients)) < len(clients):
            raise ValueError(
                f"FixedSampler(clients={list(clients)}) must name one or more different clients."
            )
        self.clients = list(clients)

    def draw(self, clients: Population, rng: np.random.Generator) -> np.ndarray:
        """Returns the ids of these clients."""
        return np.flatnonzero(self.probabilities(clients))

    def probabilities(self, clients: Population) -> np.ndarray:
        """Returns 1 for these clients, 0 for the others."""
        wanted = [one for one in self.clients if not (isinstance(one, int) and 0 <= one < len(clients))]
        names = clients.names if wanted else []
        pick("FixedSampler(clients=)", list(map(str, wanted)) or None, names)
        ids = [names.index(str(one)) if one in wanted else int(one) for one in self.clients]
        chances = np.zeros(len(clients))
        chances[ids] = 1
        return chances

    def sampling(self, clients: Population) -> Sampling | None:
        """Describes the draw for privacy accounting."""
        return Sampling("always", len(self.clients), len(clients))


class CohortSampler(DistributedSampler):
    """Sampler of cohorts (lists of client ids in ascending order), a pure function of (seed, epoch).

    Give it to a `CohortLoader`. Lightning then calls `set_epoch` on it before every epoch, also the first one
    after a resume. Under DDP Lightning does not replace it, because it is a `DistributedSampler`: every rank
    sees the same whole cohorts, and the federation shares the clients out.

    Args:
        clients: the population.
        cohort: how a cohort is drawn.
        cohorts_per_epoch: rounds in an epoch.
        seed: seed of the draws, not negative.

    Attributes:
        salt: further integers that the draws follow from, such as a secret. Default: none.

    Raises:
        ValueError: if a number is out of its range, or the population cannot give such a cohort.
    """

    def __init__(
        self, clients: Population, cohort: ClientSampler, cohorts_per_epoch: int = 1, seed: int = 0
    ) -> None:
        expect(cohorts_per_epoch=cohorts_per_epoch, ge=1)
        expect(seed=seed, ge=0)
        cohort.probabilities(clients)  # raises if no such cohort can be drawn
        super().__init__(clients, num_replicas=1, rank=0, seed=seed)
        self.clients, self.cohort, self.cohorts_per_epoch = clients, cohort, cohorts_per_epoch
        self.first = 0  # cohorts of the epoch that are skipped
        self.salt: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Returns the number of cohorts in an epoch."""
        return self.cohorts_per_epoch

    def __iter__(self) -> Iterator[list[int]]:
        """Yields the cohorts of the epoch that `set_epoch` has set last."""
        for number in range(self.first, self.cohorts_per_epoch):
            rng = np.random.default_rng([self.seed, self.epoch, number, STREAM, *self.salt])
            yield sorted(self.cohort.draw(self.clients, rng).tolist())


class CohortLoader(EpochLoader):
    """Loader of cohorts as lists of clients; Lightning keeps its state, so a run can resume inside an epoch.

    Args:
        sampler: sampler that draws the cohorts.
    """

    def __init__(self, sampler: CohortSampler) -> None:
        super().__init__(sampler.clients, sampler=sampler, batch_size=None, collate_fn=list)
        self.cohorts = sampler
        self._drawn = 0
        self._resumed = {"epoch": -1, "drawn": 0}

    def state_dict(self) -> dict[str, int]:
        """Returns the epoch, and how many of its cohorts were handed out."""
        return {"epoch": self.cohorts.epoch, "drawn": self._drawn}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Makes the next pass continue there, if it is over the same epoch."""
        self._resumed = state_dict

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yields the cohorts of the epoch that is set when the first is asked for."""
        same = self._resumed["epoch"] == self.cohorts.epoch
        self._drawn = self.cohorts.first = self._resumed["drawn"] if same else 0
        self._resumed = {"epoch": -1, "drawn": 0}
        for cohort in super().__iter__():
            self._drawn += 1
            yield cohort


def _check(size: int, clients: Population) -> None:
    if size > len(clients):
        raise ValueError(f"a cohort of {size} is larger than the population of {len(clients)} clients.")
