"""Fixed points of the rounds on scalar quadratics, which are known in closed form, and rounds by hand."""

import pytest
import torch

from lkd.federated import (
    FedAvg,
    FedLin,
    FedNova,
    FedProx,
    FedShuffle,
    FedShuffleMVR,
    LocalWork,
    Mime,
    MimeLite,
    Scaffold,
)

from .quadratic import Point, Quadratic, run


class Repeat(Point):
    """One row, seen `steps` times in an epoch: an epoch of so many full-batch steps."""

    def __init__(self, id, h, e, steps):
        super().__init__(id, [(h, e)], 2)
        self.steps = steps

    def num_batches(self):
        return self.steps

    def train_batches(self, seed):
        for _ in range(self.steps):
            yield self.h, self.e


def clients(steps=(1, 10)):
    return [Repeat(0, 1, 0.0, steps[0]), Repeat(1, 4, 1.0, steps[1])]


@pytest.mark.parametrize(
    ("algorithm", "limit"),
    [
        (FedAvg(), 0.9469566831),
        (FedProx(mu=1.0), 0.9378842780),
        (FedProx(mu=10.0), 0.8510630813),
        (FedNova(), 0.6409660128),
        (FedShuffle(), 0.7853406494),
        (Scaffold(option=1), 0.8),
        (Scaffold(option=2), 0.8),
        (FedLin(), 0.8),
        (Mime(beta=0.0), 0.8),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, float) else "",
)
def test_limits_with_unequal_steps(algorithm, limit):
    federation = run(algorithm, 250, clients())
    assert federation.client.x.item() == pytest.approx(limit, abs=1e-9)
