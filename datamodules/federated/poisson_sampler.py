"""Cohorts to which each client comes by a draw of its own, as the accounting of privacy wants them."""

import numpy as np

from lkd.checks import expect
from lkd.datamodules.federated.client_data import Population
from lkd.datamodules.federated.client_sampling import ClientSampler
from lkd.datamodules.federated.sampling_scheme import Sampling


class PoissonSampler(ClientSampler):
    """Sampler to which each client comes with chance `rate`, whoever else does.

    So the number of clients in a round varies, binomially around `rate` times all clients. It may be 0: then
    `Federation(privacy=...)` makes a round of noise alone, and any other federation stops. It is what
    McMahan et al. 2018 (arXiv:1710.06963, Algorithm 1) draw by, and what privacy is amplified by most.

    Args:
        rate: chance of a client to take part in a round, above 0 and up to 1.

    Raises:
        ValueError: for another chance.

    Example:
        >>> PoissonSampler(rate=0.5).draw(range(6), np.random.default_rng(3))
        array([0, 1, 4, 5])
    """

    def __init__(self, rate: float) -> None:
        expect(rate=rate, gt=0, le=1, why="it is the chance of a client to be in a round")
        self.rate = rate

    def draw(self, clients: Population, rng: np.random.Generator) -> np.ndarray:
        """Draws a number for each client, and returns the ids of those below `rate`."""
        return np.flatnonzero(rng.random(len(clients)) < self.rate)

    def probabilities(self, clients: Population) -> np.ndarray:
        """Returns `rate` for every client."""
        return np.full(len(clients), self.rate)

    def sampling(self, clients: Population) -> Sampling:
        """Describes the draw for privacy accounting."""
        return Sampling("poisson", self.rate * len(clients), len(clients))
