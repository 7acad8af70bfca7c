"""Replies that are finite and far too large: left out by name, and no honest client with them."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lkd.federated import SCAFFOLD, Attack, CoordinateMedian, FedAvg, Federation, Krum, LocalTraining
from lkd.federated.protocol.messages import Reply
from lkd.federated.server.books import advised
from lkd.federated.server.outliers import Own, harmless, middles, outlier, sizes
from lkd.federated.server.round import TooFewClientsError
from lkd.federated.server.server_optimizer import SpoiledModelError

from .quadratic import Point, Quadratic, loader, run, trainer
from .test_rounds import Noisy, samples


def clients(optima=(1.0, 2.0, 3.0, 4.0), population=None):
    return [Point(i, [(1, e)], population or len(optima)) for i, e in enumerate(optima)]


def errors(federation):
    return {record.client: record.error for record in federation.records if record.error}


@pytest.mark.parametrize("algorithm", [FedAvg, SCAFFOLD])
@pytest.mark.parametrize("scale", [1e30, -1e30, 1e5])
def test_one_huge_reply_is_left_out_by_name(algorithm, scale):
    kind = "scale" if scale > 0 else "sign_flip"
    with pytest.warns(UserWarning, match=r"client client3 failed .* long, and the median of 4 replies is"):
        federation = run(algorithm(), 3, clients(), attack=Attack([3], kind, abs(scale)))
    assert errors(federation).keys() == {3}
    reference = run(algorithm(), 3, clients((1.0, 2.0, 3.0), 4))
    assert torch.equal(federation.model.x, reference.model.x)
    assert federation.engine.host.store.get(3) == {}  # it keeps what it had: nothing


class Liar(SCAFFOLD):
    """One client is honest about its weights, not about its control."""

    def finish(self, context):
        lists = super().finish(context)
        return {"c": [c * 1e30 for c in lists["c"]]} if context.client.id == 3 else lists


def test_a_control_that_is_huge():
    federation = run(Liar(), 2, clients())
    assert "its c is" in errors(federation)[3]
    assert federation.algorithm.state["c"]["x"].abs().item() < 10


class Statistics(Quadratic):
    """Has a buffer that one client spoils."""

    def __init__(self, spoiled):
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))
        self.spoiled = spoiled

    def training_step(self, batch, batch_idx):
        self.mean.fill_(self.spoiled if batch[1].max() == 4.0 else 1.0)
        return super().training_step(batch, batch_idx)


def test_buffers_are_looked_at_too_and_may_be_squares():
    federation = run(FedAvg(), 1, clients(), module=Statistics(1e30))
    assert "its buffers is" in errors(federation)[3]
    assert federation.model.mean.tolist() == [1.0, 1.0]
    assert not errors(run(FedAvg(), 1, clients(), module=Statistics(255.0**2)))


def test_one_or_two_replies_are_compared_with_the_server():
    for optima in ((1.0,), (1.0, 2.0)):
        attack = Attack([len(optima) - 1], "scale", 1e30)
        with pytest.raises(TooFewClientsError, match="there are too few replies for a median"):
            run(FedAvg(), 1, clients(optima), attack=attack, min_clients=len(optima))


@pytest.mark.parametrize("optima", [
    (1.0,), (2e6,), (1.0, 2e6),  # nothing to say of the scale: prices in a small currency
    (1e9, 1.2e9, 3e9),  # all have large numbers
    (1e-9, 2e-9, 1e-9, 10.0),  # all but one have nothing to learn
    (0.0, 0.0, 0.0, 15.0),
], ids=str)  # fmt: skip
def test_no_false_alarm(optima):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*is left out")
        federation = run(SCAFFOLD(), 3, clients(optima))
    assert not errors(federation)


def test_clients_with_few_steps():
    """Three make one step, one makes a thousand."""
    rows = [[(1, 1.0)]] * 3 + [[(1, 1.0)] * 1000]
    federation = run(
        FedAvg(), 2, [Point(i, r, 4, batch=1) for i, r in enumerate(rows)], LocalTraining(epochs=1)
    )
    assert not errors(federation)


def test_the_server_outgrows_the_median():
    """A change that is no longer than the server's own weights is none, whatever the others do."""
    federation = run(FedAvg(), 1, clients((100.0, 100.0, 100.0, 900.0)), module=Quadratic(start=100.0))
    assert not errors(federation)


@pytest.mark.parametrize("rule", [None, CoordinateMedian()])
def test_replies_that_wait_for_the_others_change_no_bit(rule):
    """Weights that are zero at first: every reply is longer."""

    def weights(**kwargs):
        module = Noisy()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(0.01)
        return run(FedAvg(), 3, samples(), module=module, aggregator=rule, **kwargs).model.state_dict()

    torch.manual_seed(0)
    one = weights()
    torch.manual_seed(0)
    two = weights(outlier_factor=None)
    assert all(torch.equal(one[name], two[name]) for name in one)


class Tells(FedAvg):
    """Tells of the very tensor that trains."""

    def finish(self, context):
        context.reply_tensors = {"live": context.params[0]}
        return {}

    def round(self, server):
        replies = list(server.train())
        self.heard = [float(reply.knowledge["live"]) for reply in replies]
        return server.mean(replies)["delta"]


def test_what_waits_is_a_copy():
    algorithm = Tells()
    run(algorithm, 1, clients((1e6, 2e6, 3e6)))
    assert algorithm.heard == pytest.approx([0.05e6, 0.1e6, 0.15e6])


def test_a_rule_that_needs_all_replies_has_them():
    attack = Attack([4], "scale", 1e30)
    five = clients((1.0, 1.0, 1.0, 1.0, 1.0))
    federation = run(FedAvg(), 1, five, attack=attack, aggregator=Krum(byzantine=1))
    assert not errors(federation) and federation.model.x.item() == pytest.approx(0.05)
    six = clients((1.0, 1.0, 1.0, 1.0, 1.0, 1.0))
    assert errors(run(FedAvg(), 1, six, attack=attack, aggregator=Krum(byzantine=1))).keys() == {4}


def test_knowledge_and_numbers_are_compared_where_there_is_a_median():
    def measured(logits, loss, count):
        reply = Reply(
            {}, {"loss": loss}, {"logits": torch.full((count, 3), logits), "ids": torch.tensor([10**12])}
        )
        return sizes(reply, 1e3, Own.of({}, {}))

    honest = [measured(2.0, 0.5, 4), measured(30.0, 900.0, 400), measured(0.1, 2.0, 1)]
    assert not any(outlier(one, middles(honest), 1e3) for one in honest)
    loud, wrong = measured(1e30, 0.5, 4), measured(1.0, 1e30, 4)
    everyone = [*honest, loud, wrong]
    assert not harmless(loud) and "its logits is 1e+30" in outlier(loud, middles(everyone), 1e3)
    assert "its number loss is 1e+30" in outlier(wrong, middles(everyone), 1e3)
    assert outlier(loud, middles([loud]), 1e3) == ""  # nobody to compare it with


def test_a_model_that_is_not_finite_is_not_taken_and_the_last_checkpoint_stays(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path, save_last=True, save_on_train_epoch_end=True)

    def explodes(optimizer):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 if step < 2 else 1e308)

    federation = Federation(Quadratic(), FedAvg(), server_scheduler=explodes)
    with pytest.raises(SpoiledModelError, match=r"round 2: what SGD made of it is not finite"):
        fit = trainer(4, callbacks=[checkpoint], enable_checkpointing=True)
        fit.fit(federation, loader(clients((100.0, 200.0, 400.0))))
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert last["epoch"] == 1 and last["state_dict"]["model.x"].isfinite().all()


class LostLater(Quadratic):
    """No client gets anything finite out of the server's weights of the first round."""

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * (float("nan") if self.global_step else 1.0)


def test_where_all_fail_by_values_the_last_checkpoint_is_not_praised():
    with pytest.raises(TooFewClientsError) as stopped:
        run(FedAvg(), 2, clients(), module=LostLater())
    assert stopped.value.spoiled
    saved = SimpleNamespace(checkpoint_callbacks=[SimpleNamespace(last_model_path="x.ckpt")])
    with (
        pytest.raises(TooFewClientsError, match=r"resume from an earlier checkpoint than 'x\.ckpt'"),
        advised(saved),
    ):
        raise stopped.value


def test_a_change_that_is_not_finite_is_not_taken():
    class Broken(FedAvg):
        def round(self, server):
            return {name: change / 0 for name, change in super().round(server).items()}

    federation = Federation(Quadratic(), Broken())
    with pytest.raises(SpoiledModelError, match="what the clients' replies were joined to is not finite"):
        trainer(1).fit(federation, loader(clients()))
    assert federation.model.x.item() == 0.0


@pytest.mark.parametrize("factor", [1.0, 0.0, -5.0, float("nan")])
def test_a_factor_that_makes_no_sense(factor):
    with pytest.raises(ValueError, match=r"outlier_factor=.* must be above 1"):
        Federation(Quadratic(), outlier_factor=factor)
