"""Frozen weights that a client moves itself, as the target of BYOL is, are the client's own; statistics over ranks are refused."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from lkd.federated import FedAvg, Federation, LocalTraining, load_client
from lkd.federated.server.checks import check_synced

from .quadratic import loader, trainer
from .test_foreign_clients import Foreign
from .test_rounds import samples

RATE = 0.5


class Target(Foreign):
    """Its target follows its first layer."""

    def __init__(self, moves=True):
        torch.manual_seed(4)
        super().__init__()
        self.target, self.moves = nn.Linear(3, 4).requires_grad_(False), moves

    def on_train_batch_end(self, *_):
        if self.moves:
            self.target.weight.lerp_(self.net[0].weight.detach(), RATE)


def fit(rounds, folder=None, resume=None, **kwargs):
    federation = Federation(Target(**kwargs), FedAvg(), LocalTraining(steps=1), seed=1)
    saved = [ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)] if folder else []
    run = trainer(rounds, enable_checkpointing=bool(folder), callbacks=saved)
    run.fit(federation, loader(samples()), ckpt_path=resume)
    return federation


def test_a_moving_target_is_kept_by_every_client(tmp_path):
    with pytest.warns(
        UserWarning, match=r"Target changes target\.weight in training, which is frozen"
    ) as told:
        whole = fit(2, tmp_path)
    assert len([w for w in told if "is frozen" in str(w.message)]) == 1
    start, after = Target(), fit(1)
    for client, model in whole.models(samples()):
        first = start.target.weight.lerp(_trained(start, client, after, 0), RATE)
        assert not torch.equal(model.target.weight, start.target.weight)
        assert torch.equal(after.engine.host.store.get(client.id)["personal"]["target.weight"], first)
        loaded = load_client(str(tmp_path / "epoch=1.ckpt"), client=client.id, module=Target())
        assert torch.equal(loaded.target.weight, model.target.weight)
    kept = [whole.engine.host.store.get(i)["personal"]["target.weight"] for i in range(3)]
    assert not torch.equal(kept[0], kept[1])
    resumed = fit(2, tmp_path / "rest", tmp_path / "epoch=0.ckpt")
    assert all(
        torch.equal(resumed.engine.host.store.get(i)["personal"]["target.weight"], kept[i]) for i in range(3)
    )


def _trained(start, client, after, round):
    """A client's first layer after its one step of the first round."""
    module = Target(moves=False)
    federation = Federation(module, FedAvg(), LocalTraining(steps=1), seed=1)
    alone = next(c for c in samples() if c.id == client.id)
    trainer(1).fit(federation, loader([alone]))
    return federation.model.net[0].weight.detach()


def test_frozen_weights_that_stay_are_nobodys():
    federation = fit(2, moves=False)
    assert federation.engine.host.store.state_dict() == {}


class Unfreezes(Foreign):
    """Trains its first layer from round 1 on."""

    def __init__(self, frozen):
        torch.manual_seed(4)
        super().__init__()
        self.net[0].requires_grad_(not frozen)

    def on_train_start(self):
        self.net[0].requires_grad_(self.current_epoch > 0)


def unfrozen(frozen, rounds):
    federation = Federation(Unfreezes(frozen), FedAvg(), LocalTraining(steps=1), seed=1)
    trainer(rounds).fit(federation, loader(samples()))
    return federation.model.net[0].weight


def test_a_layer_that_clients_thaw_is_told_how_it_becomes_the_servers():
    start = Unfreezes(False).net[0].weight
    with pytest.warns(
        UserWarning, match=r"Unfreezes trains net\.0\.weight at a client, which was frozen"
    ) as told:
        assert torch.equal(unfrozen(True, 3), start)
    assert not [w for w in told if "moving average" in str(w.message)]
    assert torch.equal(unfrozen(False, 1), start)  # what the warning says to do
    assert not torch.equal(unfrozen(False, 2), start)


def test_statistics_over_ranks_are_refused():
    module = nn.Sequential(nn.Linear(2, 2), nn.SyncBatchNorm(2))
    with pytest.raises(ValueError, match=r"1 is a SyncBatchNorm, which joins the batches of all 2 ranks"):
        check_synced([module], 2)
    check_synced([module], 1)
    check_synced([nn.BatchNorm1d(2)], 2)
