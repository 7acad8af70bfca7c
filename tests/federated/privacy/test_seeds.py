"""Seeds of noise and of draws: nobody can try them all, and what comes again counts as that."""

import contextlib

import pytest
import torch
from lightning.pytorch import LightningDataModule

pytest.importorskip("dp_accounting")

from lkd.datamodules import PoissonSampler, UniformSampler
from lkd.federated.server.privacy_budget import NOISE
from lkd.federated.server.private_round import Release
from tests.federated.privacy.rounds import cohorts, dp, federation, fit, points
from tests.federated.quadratic import trainer


def test_a_secret_seed_is_another_each_time():
    runs = [fit(dp(clip=1e-6, noise_multiplier=1.0, secret=True)).model.x.item() for _ in range(2)]
    assert runs[0] != runs[1]


@pytest.mark.parametrize("power", [32, 63, 100])
def test_all_bits_of_a_seed_count(power):
    """Noise of a seed of 32 bits could be found by trying them all."""
    like = {"w": torch.zeros(5), "b": torch.zeros(())}
    found = [
        Release(dp(noise_multiplier=1.0), 4.0, (5 + high, 0, NOISE)).noise(like) for high in (0, 2**power)
    ]
    assert found[0]["b"].shape == () and not (found[0]["w"] == found[1]["w"]).any()


def test_a_secret_seed_cannot_be_tried():
    secrets = [fit(dp(noise_multiplier=1.0, secret=True)).budget.state_dict()["secret"] for _ in range(4)]
    assert len(set(secrets)) == 4 and max(secret.bit_length() for secret in secrets) > 100


def test_a_secret_draws_the_clients_too():
    """Whoever knows the data's seed would know who took part, and then sampling hides nobody."""

    def drawn(secret):
        privacy = dp(noise_multiplier=1.0, secret=secret)
        found = fit(privacy, points(40), PoissonSampler(0.5), rounds=3)
        return list(found.trainer.train_dataloader.cohorts)

    assert drawn(False) == drawn(False) and len({str(drawn(secret)) for secret in (False, True, True)}) == 3


def test_a_loader_that_does_not_know_the_secret_is_refused():
    private = federation(dp(noise_multiplier=1.0, secret=True))
    with pytest.raises(ValueError, match="reload_dataloaders_every_n_epochs: a new train loader"):
        trainer(2, reload_dataloaders_every_n_epochs=1).fit(private, datamodule=OverPoints())


class OverPoints(LightningDataModule):
    """Makes a loader whenever it is asked."""

    def train_dataloader(self):
        return cohorts(points(), PoissonSampler(0.5))


def fits_again(sampler, seed, known=False):
    """What the ledger counts of a second fit, of two rounds."""
    private = federation(dp(noise_multiplier=2.0))
    trainer(1).fit(private, cohorts(points(), sampler, rounds=2))
    again = cohorts(points(), sampler, rounds=2, seed=seed)
    with pytest.warns(UserWarning, match="same cohorts as an earlier one, by the data's seed=0") if known else contextlib.nullcontext():  # fmt: skip
        trainer(1).fit(private, again)
    return private.budget


@pytest.mark.parametrize("sampler", [PoissonSampler(0.5), UniformSampler(2)])
def test_cohorts_that_come_again_are_not_amplified(sampler):
    same, other = fits_again(sampler, 0, known=True), fits_again(sampler, 1)
    assert [entry.sampling.scheme for entry in same.ledger.entries] == [other.sampling.scheme, "always"]
    assert [entry.rounds for entry in same.ledger.entries] == [2, 2] and same.sampling == other.sampling
    assert [entry.rounds for entry in other.ledger.entries] == [4]
    assert same.ledger.epsilon() > other.ledger.epsilon() * (1 - 1e-9) and same.state_dict()["seeds"] == [0]
