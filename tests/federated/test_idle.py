"""A `training_step` that gives no loss says so, and training that never has one is refused."""

import warnings

import pytest
import torch

from lkd.federated import SCAFFOLD, FedAvg, Federation, LocalTraining

from .quadratic import Point, Quadratic, loader, trainer, two_clients


class Skips(Quadratic):
    """Has a loss for those rows alone whose e is above a bound."""

    def __init__(self, bound, **kwargs):
        super().__init__(**kwargs)
        self.bound = bound

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss if batch[1].max() > self.bound else None


@pytest.mark.parametrize("as_dict", [False, True])
def test_no_loss_at_all_is_refused_before_the_servers_step(as_dict):
    class Never(Skips):
        def training_step(self, batch, batch_idx):
            return {"loss": None} if as_dict else None

    federation = Federation(
        Never(0.0, start=3.0), SCAFFOLD(), server_optimizer=lambda p: torch.optim.SGD(p, 1.0)
    )
    with pytest.raises(
        ValueError, match=r"round 0: training_step of the clients returned no loss \(None\) for any"
    ):
        trainer(2).fit(federation, loader(two_clients()))
    assert federation.model.x.item() == 3.0


def test_a_client_without_a_loss_is_named_once():
    with pytest.warns(UserWarning) as told:
        trainer(3).fit(Federation(Skips(0.5), FedAvg()), loader(two_clients()))
    said = [str(w.message) for w in told if "no loss" in str(w.message)]
    assert len(said) == 1 and "for 1 of 1 batches of client client0" in said[0]


def test_a_few_batches_without_a_loss_are_counted():
    rows = Point(0, [(1, -1.0), (1, 2.0), (1, 3.0)], 1, batch=1)
    with pytest.warns(UserWarning, match=r"for 2 of 6 batches of client client0"):
        trainer(1).fit(Federation(Skips(0.0), local=LocalTraining(epochs=2)), loader([rows]))


def test_a_round_of_clients_that_have_nothing_is_legal_once_something_was_trained():
    empty, full = Point(0, [(1, -1.0)], 2), Point(1, [(1, 1.0)], 2)
    federation = Federation(Skips(0.0))
    run = trainer(1)
    run.fit(federation, loader([empty, full]))
    federation._losses.check(1, [record for record in federation.records if record.client == 0])


def test_no_word_where_there_is_always_a_loss():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*no loss")
        trainer(1).fit(Federation(Quadratic()), loader(two_clients()))
