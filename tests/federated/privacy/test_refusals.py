"""What differential privacy cannot cover is refused in a sentence, before any client works."""

import importlib.util
import math

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lkd.datamodules import ClientSampler, PoissonSampler, UniformSampler, WeightedSampler
from lkd.federated import (
    SCAFFOLD,
    ClientDP,
    CoordinateMedian,
    DecentralizedSGD,
    FedAvg,
    Federation,
    FedKD,
    FedLin,
    FedMD,
    FedNova,
    FedProx,
    FedShuffle,
    Local,
    Mime,
    Ring,
)
from lkd.federated.engines.site_process import unlike
from lkd.federated.given import check_statistics
from lkd.federated.protocol.description import Description
from tests.federated.privacy.rounds import cohorts, dp, federation, fit, points
from tests.federated.quadratic import Quadratic, loader, trainer
from tests.federated.test_rounds import Noisy

needs_accountant = pytest.mark.skipif(
    importlib.util.find_spec("dp_accounting") is None, reason="dp-accounting is not installed"
)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clip": 0.0}, "clip=0.0 must be above 0"),
        ({"clip": math.nan}, "clip=nan"),
        ({"noise_multiplier": -1.0}, "noise_multiplier=-1.0 must be"),
        ({"noise_multiplier": math.inf}, "noise_multiplier=inf"),
        ({"delta": 0.0}, "delta=0.0 must be"),
        ({"delta": 1.0}, "delta=1.0 must be"),
        ({"max_epsilon": 0.0}, "max_epsilon=0.0 must be above 0, or None"),
        ({"clip": math.inf}, "clip=inf with noise_multiplier=1.0"),
    ],
)
def test_numbers_out_of_range(wrong, message):
    with pytest.raises(ValueError, match=message):
        ClientDP(**{"clip": 1.0, "noise_multiplier": 1.0, "delta": 1e-5, **wrong})


OTHERS = (SCAFFOLD(), Mime(), FedNova(), FedLin(), FedShuffle(), Local(), FedMD(), FedKD(5, 0.6, 0.9), DecentralizedSGD(Ring()))  # fmt: skip


@pytest.mark.parametrize("algorithm", OTHERS, ids=lambda algorithm: type(algorithm).__name__)
def test_algorithms_that_send_more(algorithm):
    with pytest.raises(ValueError, match=f"{type(algorithm).__name__} lets more leave the clients"):
        federation(dp(), algorithm)


def test_an_algorithm_has_to_say_it_again():
    class Mine(FedAvg):
        pass

    with pytest.raises(ValueError, match="Mine lets more leave the clients, or does not say"):
        federation(dp(), Mine(weighting="uniform"))


@pytest.mark.parametrize("algorithm", [FedAvg(), FedProx(weighting="present")])
def test_weights_of_clients(algorithm):
    with pytest.raises(ValueError, match=r"weighting='(samples|present)' .*\(weighting='uniform'\)"):
        federation(dp(), algorithm)


def test_the_default_counts_clients_alike():
    assert Federation(Quadratic(), privacy=dp()).algorithm.weighting == "uniform"
    assert Federation(Quadratic()).algorithm.weighting == "samples"


def test_robust_rules_and_several_architectures():
    with pytest.raises(ValueError, match="aggregator=CoordinateMedian"):
        federation(dp(), aggregator=CoordinateMedian())
    with pytest.raises(ValueError, match="with other_models"):
        federation(dp(), other_models=[Quadratic()])


def test_a_class_in_place_of_an_object():
    with pytest.raises(TypeError, match=r"privacy=.* must be an object of ClientDP, such as"):
        federation(ClientDP)


def test_without_the_library(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "lightning-kd\[privacy\]"'):
        fit(dp())


@needs_accountant
def test_batch_statistics():
    with pytest.raises(
        ValueError, match=r"net.1.running_mean is a statistic .* personal_layers=\['batchnorm'\]"
    ):
        fit(dp(), module=Noisy())
    check_statistics(None, {"running_mean": torch.zeros(1)})
    check_statistics(dp(), {})


@needs_accountant
def test_a_loader_that_does_not_say_how_clients_are_drawn():
    with pytest.raises(ValueError, match="this train loader does not say"):
        trainer(1).fit(federation(dp()), loader(points()))


class Again(UniformSampler):
    """Draws in another way than its base says."""

    def draw(self, clients, rng):
        return super().draw(clients, rng)


class Silent(ClientSampler):
    """Says nothing."""

    def draw(self, clients, rng):
        return [0]

    def probabilities(self, clients):
        return torch.ones(len(clients))


@needs_accountant
@pytest.mark.parametrize("sampler", [Again(2), Silent(), WeightedSampler(2)])
def test_samplers_whose_privacy_is_not_known(sampler):
    clients = cohorts(points()).cohorts.clients
    clients.sizes = torch.ones(4, dtype=torch.long).numpy()
    loader = cohorts(points())
    loader.cohorts.cohort = sampler
    with pytest.raises(ValueError, match=f"cohort={type(sampler).__name__} draws clients in a way"):
        trainer(1).fit(federation(dp()), loader)


@needs_accountant
def test_a_chance_as_large_as_a_clients():
    with pytest.raises(ValueError, match=r"privacy.delta=0.25 must be below 1/4"):
        fit(dp(delta=0.25))


@needs_accountant
def test_a_least_number_of_clients_where_chance_draws():
    with pytest.raises(ValueError, match="min_clients=2: with PoissonSampler a round may have fewer"):
        fit(dp(), sampler=PoissonSampler(0.5), min_clients=2)
    assert fit(dp(), min_clients=2).trainer.global_step == 1


@pytest.mark.parametrize("rate", [0.0, 1.5, math.nan])
def test_chances_of_a_sampler(rate):
    with pytest.raises(ValueError, match="rate="):
        PoissonSampler(rate)


def saved(folder, privacy, rounds=2, **kwargs):
    keep = ModelCheckpoint(folder, save_last=True)
    fit(privacy, rounds=rounds, trainer_args={"callbacks": [keep], "enable_checkpointing": True}, **kwargs)
    return str(folder / "last.ckpt")


@needs_accountant
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (dp(noise_multiplier=1.0), None),
        (None, dp(noise_multiplier=1.0)),
        (dp(noise_multiplier=1.0), dp(noise_multiplier=2.0)),
        (dp(noise_multiplier=1.0), dp(clip=1.0, noise_multiplier=1.0)),
    ],
)
def test_a_run_goes_on_only_as_it_was(before, after, tmp_path):
    path = saved(tmp_path, before)
    with pytest.raises(ValueError, match="the checkpoint is of privacy="):
        fit(after, ckpt=path, rounds=4)


@needs_accountant
def test_a_run_goes_on_with_a_larger_budget_and_what_was_spent(tmp_path):
    privacy = dp(noise_multiplier=4.0)
    whole = fit(privacy, rounds=4)
    path = saved(tmp_path, dp(noise_multiplier=4.0, max_epsilon=1e3, log_clients=True))
    checkpoint = torch.load(path, weights_only=True)["federation"]["privacy"]
    assert checkpoint["rounds"] == [["always", 4, 4, 4.0, 2]] and checkpoint["delta"] == 1e-3
    assert checkpoint["epsilon"] == fit(privacy, rounds=2).budget.ledger.epsilon()
    on = federation(privacy)
    trainer(2).fit(on, cohorts(points(), rounds=2), ckpt_path=path)
    assert on.budget.ledger.rounds == 4 and torch.equal(on.model.x, whole.model.x)
    assert on.budget.ledger.epsilon() == whole.budget.ledger.epsilon()


@needs_accountant
def test_a_resumed_run_foretells_the_rounds_that_are_left(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("lkd.federated.server.privacy_budget.rank_zero_info", said.append)
    path = saved(tmp_path, dp(noise_multiplier=4.0))
    on = federation(dp(noise_multiplier=4.0))
    trainer(2).fit(on, cohorts(points(), rounds=2), ckpt_path=path)
    costs = [fit(dp(noise_multiplier=4.0), rounds=rounds).budget.ledger.epsilon() for rounds in (2, 4)]
    assert said[:2] == [
        f"privacy: 2 rounds will bring epsilon to {cost:.3g} at delta=0.001." for cost in costs
    ]


@needs_accountant
def test_a_run_whose_budget_is_spent_does_not_begin(tmp_path):
    path = saved(tmp_path, dp(noise_multiplier=4.0))
    with pytest.raises(RuntimeError, match=r"max_epsilon=0.5: 2 rounds have cost"):
        trainer(2).fit(federation(dp(noise_multiplier=4.0, max_epsilon=0.5)), cohorts(points()), ckpt_path=path)  # fmt: skip


@needs_accountant
def test_a_secret_seed_goes_on(tmp_path):
    privacy = dp(noise_multiplier=4.0, secret=True)
    sampler = PoissonSampler(0.5)
    path = saved(tmp_path, privacy, sampler=sampler, clients=points(20))
    ends = []
    for _ in range(2):
        on = federation(privacy)
        loader = cohorts(points(20), sampler, rounds=2)
        trainer(2).fit(on, loader, ckpt_path=path)
        ends.append((on.model.x.item(), list(loader.cohorts)))
    assert ends[0] == ends[1]


@needs_accountant
def test_a_resumed_run_draws_new_cohorts_and_weights_alone_the_same(tmp_path):
    privacy, sampler = dp(noise_multiplier=4.0), PoissonSampler(0.5)
    path = saved(tmp_path, privacy, sampler=sampler)
    on = federation(privacy)
    trainer(2).fit(on, cohorts(points(), sampler, rounds=2), ckpt_path=path)
    assert [entry[0] for entry in on.budget.state_dict()["rounds"]] == ["poisson"]
    uniform = FedAvg(weighting="uniform")
    began = Federation.load_from_checkpoint(path, model=Quadratic(), algorithm=uniform, privacy=privacy)
    trainer(1).fit(began, cohorts(points(), sampler))
    assert [entry[0] for entry in began.budget.state_dict()["rounds"]] == ["poisson", "always"]


@needs_accountant
def test_weights_of_a_run_without_privacy_are_told_of(tmp_path):
    path = saved(tmp_path, None)
    began = Federation.load_from_checkpoint(path, model=Quadratic(), algorithm=FedAvg(weighting="uniform"), privacy=dp(noise_multiplier=4.0))  # fmt: skip
    with pytest.warns(UserWarning, match="of a run without privacy, whose rounds epsilon does not count"):
        trainer(1).fit(began, cohorts(points()))
    assert began.budget.ledger.rounds == 1


def test_a_site_compares_how_far_changes_are_clipped():
    told = [
        Description([], [], FedAvg(), privacy=privacy).summary([]) for privacy in (None, dp(), dp(clip=9.0))
    ]
    assert unlike(told[1], told[0]).startswith("privacy is 'ClientDP(clip=0.07, ")
    assert "clip=9.0" in unlike(told[1], told[2]) and unlike(told[1], dict(told[1])) is None


@needs_accountant
def test_measurements_of_clients_are_told_of():
    found = fit(dp(noise_multiplier=4.0))
    with pytest.warns(UserWarning, match=r"clients' own data \(ClientReport\) leaves them as it is"):
        found.evaluate(points(), "val")
