"""Private rounds over clients with quadratic losses, and what they are compared with."""

import math

import numpy as np
import torch

from lkd.datamodules import AllClients, CohortSampler
from lkd.datamodules.federated.client_sampling import CohortLoader
from lkd.federated import ClientDP, FedAvg, Federation, LocalTraining
from lkd.federated.engines import Loop
from lkd.federated.server.privacy_budget import NOISE
from tests.federated.quadratic import Clients, Point, Quadratic, trainer

RATE = 0.05
"""Rate of the clients, of which a step to the point e is `RATE * e` long."""


def points(number=4, size=1):
    """Client k holds the point k in every direction, once."""
    return [Point(k, [(1, [float(k)] * size)], number) for k in range(number)]


def cohorts(clients, sampler=None, rounds=1, seed=0):
    """All rounds in one epoch."""
    return CohortLoader(CohortSampler(Clients(clients), sampler or AllClients(), rounds, seed))


def dp(clip=0.07, noise_multiplier=0.0, delta=1e-3, **kwargs):
    return ClientDP(clip, noise_multiplier, delta, **kwargs)


def federation(privacy, algorithm=None, engine=None, module=None, **kwargs):
    algorithm = algorithm or FedAvg(weighting="uniform")
    local = LocalTraining(epochs=1)
    model = module or Quadratic(lr=RATE)
    return Federation(model, algorithm, local, engine=engine or Loop(), privacy=privacy, **kwargs)


def fit(privacy, clients=None, sampler=None, rounds=1, trainer_args=None, data_seed=0, ckpt=None, **kwargs):
    """Returns a federation after its rounds."""
    found = federation(privacy, **kwargs)
    loader = cohorts(clients or points(), sampler, rounds, data_seed)
    trainer(1, **(trainer_args or {})).fit(found, loader, ckpt_path=ckpt)
    return found


def noise_of(round, deviation, size=1, seed=0):
    """The noise of a round, drawn by hand."""
    bits = np.random.Philox(np.random.SeedSequence([seed, round, NOISE]))
    return torch.from_numpy(np.random.Generator(bits).standard_normal(size)) * deviation


def gaussian_delta(epsilon, noise):
    """Balle and Wang 2018 (arXiv:1805.06530), Theorem 8: delta of a Gaussian mechanism of sensitivity 1."""

    def tail(z):
        return math.erfc(z / math.sqrt(2)) / 2  # Phi(-z)

    return tail(epsilon * noise - 1 / (2 * noise)) - math.exp(epsilon) * tail(
        epsilon * noise + 1 / (2 * noise)
    )
