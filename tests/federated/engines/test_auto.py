"""The default engine: what it chooses, that it says so, and that a resumed run chooses the same."""

import logging

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from lkd.datamodules import IID, Digits, FederatedDataModule
from lkd.federated import SCAFFOLD, DecentralizedSGD, FedAvg, Federation, LocalTraining
from lkd.federated.client.stacked import worth
from lkd.federated.engines import Auto, Loop, Stacked
from lkd.federated.topology import Ring
from lkd.models import MLP
from lkd.modules import Classifier

CALLS = []
"""Of the step of all copies of a module."""


class Counted(Classifier):
    """Counts the calls of its step."""

    def training_step(self, batch, batch_idx=0):
        CALLS.append(batch[0].shape)
        return super().training_step(batch, batch_idx)


class Hooked(Counted):
    """Has a hook that is called for each client."""

    def on_train_batch_start(self, batch, batch_idx):
        pass


class Remembers(Counted):
    """Keeps something of a step, which only training shows."""

    seen = None

    def training_step(self, batch, batch_idx=0):
        self.seen = len(batch[0])
        return super().training_step(batch, batch_idx)


def mlp():
    return MLP(64, 10, hidden=[12])


def fit(engine=None, net=mlp, kind=Counted, clients=10, rounds=2, algorithm=FedAvg, path=None, save=None,
        cohort=None, **options):  # fmt: skip
    torch.manual_seed(0)
    CALLS.clear()
    module = kind(net(), num_classes=10, optimizer=lambda params: torch.optim.SGD(params, lr=0.1))
    federation = Federation(module, algorithm(), LocalTraining(steps=3), engine=engine, **options)
    data = FederatedDataModule(Digits(batch_size=16), IID(), clients=clients, cohort=cohort, seed=2)
    made = Trainer(max_epochs=rounds, limit_val_batches=0, accelerator="cpu", logger=False, enable_checkpointing=False,
                   enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    made.fit(federation, data, ckpt_path=path, weights_only=True)
    if save is not None:
        made.save_checkpoint(save)
    return federation


TRIAL = 4  # steps that the first stacked client makes to see whether it may: two by itself, two in stacks


def said(caplog):
    return [r.getMessage() for r in caplog.records if r.getMessage().startswith("engine: ")]


@pytest.fixture(autouse=True)
def heard(caplog):
    caplog.set_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero")


def same_bits(one, two):
    first, second = one.state_dict(), two.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_many_small_clients_are_stacked_and_it_says_so_once(caplog):
    federation = fit()
    assert isinstance(federation.engine, Auto)
    assert len(CALLS) == 3 + TRIAL + 3 + 3  # the first client of the first round, then a stack in each
    assert said(caplog) == ["engine: Stacked, since 10 clients a round share MLP of 910 weights."]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"clients": 7}, "7 of a round's clients share MLP and the number of steps, and 8 or more pay"),
        ({"kind": Hooked}, "Hooked has hooks that are called for each client (on_train_batch_start)"),
        ({"kind": Remembers}, "a client keeps .seen beside what it trains"),
        (
            {"algorithm": lambda: DecentralizedSGD(Ring())},
            "DecentralizedSGD does not say that its client half works on stacked tensors (stacks = True)",
        ),
        (
            {"net": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 1300), nn.Linear(1300, 10))},
            "Sequential has 24,378 weights a tensor, and up to 20,000 pay",
        ),
        (
            {"net": lambda: nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), nn.Flatten(), nn.Linear(512, 10))},
            "a step of Sequential takes 0 million operations for each weight tensor, and up to 0 million pay",
        ),
    ],
)
def test_elsewhere_it_is_the_loop_with_its_bits(options, why, caplog, monkeypatch):
    monkeypatch.setattr(worth, "WEIGHTS", 20_000)
    monkeypatch.setattr(worth, "OPERATIONS", 4e5)
    one = fit(**options)
    calls = len(CALLS)
    assert said(caplog) == [f"engine: Loop, since {why}."]
    two = fit(Loop(), **options)
    assert calls == len(CALLS)
    same_bits(one, two)


@pytest.mark.parametrize("algorithm", [FedAvg, SCAFFOLD])
def test_a_resumed_run_stacks_the_same_clients(algorithm, tmp_path):
    path = str(tmp_path / "half.ckpt")
    for engine in (Auto, Stacked):
        fit(engine(), algorithm=algorithm, rounds=2, save=path)
        resumed = fit(engine(), algorithm=algorithm, rounds=4, path=path)
        assert len(CALLS) == 3 + 3  # no client goes first again
        same_bits(resumed, fit(engine(), algorithm=algorithm, rounds=4))


def test_a_resumed_run_remembers_what_cannot_be_stacked(tmp_path, caplog):
    path = str(tmp_path / "half.ckpt")
    fit(kind=Remembers, save=path)
    caplog.clear()
    resumed = fit(kind=Remembers, rounds=3, path=path)
    assert len(CALLS) == 30
    assert said(caplog) == ["engine: Loop, since a client keeps .seen beside what it trains."]
    same_bits(resumed, fit(kind=Remembers, rounds=3))


def test_each_architecture_has_its_own_choice(caplog):
    torch.manual_seed(0)
    fit(
        clients=20,
        other_models=[Hooked(mlp(), 10, optimizer=lambda params: torch.optim.SGD(params, lr=0.1))],
        rounds=1,
    )
    assert len(CALLS) == 3 + TRIAL + 3 + 10 * 3
    (line,) = said(caplog)
    assert line.startswith(
        "engine: Stacked, since 10 clients a round share MLP of 910 weights; MLP by Loop, since"
    )


def test_a_late_discovery_is_told_and_the_run_goes_on(caplog):
    class Late(Counted):
        def training_step(self, batch, batch_idx=0):
            if len(CALLS) > 4 + TRIAL:
                self.late = True
            return super().training_step(batch, batch_idx)

    federation = fit(kind=Late, rounds=3)
    assert len(federation.records) == 10 and not any(record.error for record in federation.records)
    assert said(caplog)[-1] == "engine: Loop for Late from now on, since training changes late."
