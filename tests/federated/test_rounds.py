"""What a round does beside its algorithm: reproducible, failure-proof, and true to Lightning's habits."""

import copy
import csv
import random
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from lkd.federated import (
    SCAFFOLD,
    CoordinateMedian,
    FedAvg,
    Federation,
    FedLin,
    FedShuffle,
    Local,
    LocalTraining,
    Mime,
    SystemHeterogeneity,
)
from lkd.federated.client.clock import Clock
from lkd.federated.server.round import TooFewClientsError

from .quadratic import Point, Quadratic, loader, run, trainer


class Noisy(LightningModule):
    """A small classifier with dropout, batch norm, a scheduler and logs of all kinds."""

    def __init__(self, lr=0.1, interval="epoch", momentum=0.0):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)
        )
        self.lr, self.interval, self.momentum = lr, interval, momentum
        self.accuracy = MulticlassAccuracy(2)

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self.net(x + 0.01 * random.random() + 0.01 * np.random.rand())
        loss = nn.functional.cross_entropy(logits, y)
        self.accuracy(logits, y)
        self.log("train/loss", loss, batch_size=len(y))
        self.log("train/acc", self.accuracy)
        self.log_dict({"train/number": 1.0, "lr": self.optimizers().param_groups[0]["lr"]})
        return {"loss": loss}

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=self.momentum)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.interval}}


class Samples(Point):
    """A client with `n` samples of three numbers, split by their sum; kept apart by `id`."""

    def __init__(self, id, n, population=3, batch=4):
        self.id, self.name, self.population, self.batch = id, f"client{id}", population, batch
        self.num_samples, self.share, self.probability = n, 1 / population, 1.0
        g = torch.Generator().manual_seed(id)
        self.x = torch.randn(n, 3, generator=g) + id
        self.y = (self.x.sum(1) > 3 * id).long()

    def num_batches(self):
        return -(-self.num_samples // self.batch)

    def train_batches(self, seed):
        order = torch.randperm(self.num_samples, generator=torch.Generator().manual_seed(seed))
        for chunk in order.split(self.batch):
            yield self.x[chunk], self.y[chunk]

    def ordered_batches(self, part):
        yield from zip(self.x.split(self.batch), self.y.split(self.batch), strict=True)


def samples():
    return [Samples(0, 8), Samples(1, 12), Samples(2, 20)]


def noisy(algorithm=None, rounds=3, clients=None, module=None, seed=0, trainer_args=None, **kwargs):
    torch.manual_seed(7)
    module = module or Noisy()
    federation = Federation(module, algorithm, LocalTraining(epochs=1), seed=seed, **kwargs)
    made = trainer(rounds, **(trainer_args or {}))
    made.fit(federation, loader(clients or samples()))
    return federation, made


def same(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_same_seed_gives_same_bits_and_another_seed_does_not():
    (one, _), (two, _), (other, _) = noisy(seed=1), noisy(seed=1), noisy(seed=2)
    assert same(one, two)
    assert not same(one, other)


def test_a_round_leaves_the_global_generators_alone():
    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    made = trainer(1)

    class Watch(Federation):
        def training_step(self, cohort, batch_idx):
            before = states()
            super().training_step(cohort, batch_idx)
            assert states() == before
            self.watched = True

    federation = Watch(Noisy(), FedAvg())
    made.fit(federation, loader(samples()))
    assert federation.watched


def test_the_order_in_which_clients_come_does_not_count():
    forward, _ = noisy(SCAFFOLD(option=1))
    backward, _ = noisy(SCAFFOLD(option=1), clients=list(reversed(samples())))
    assert same(forward, backward)


def test_logs_are_averaged_over_clients_by_samples():
    federation, made = noisy(rounds=1)
    by_client = {r.client: r.metrics["train/loss"] for r in federation.records}
    expected = sum(by_client[i] * n for i, n in enumerate((8, 12, 20))) / 40
    assert float(made.callback_metrics["train/loss"]) == pytest.approx(expected, rel=1e-6)
    assert made.callback_metrics["train/number"] == 1
    assert 0 <= made.callback_metrics["train/acc"] <= 1


def test_a_scheduler_counts_rounds_or_local_steps():
    _, made = noisy(rounds=3)
    assert float(made.callback_metrics["lr"]) == pytest.approx(0.1 * 0.5**2)
    federation, _ = noisy(rounds=1, module=Noisy(interval="step"))
    expected = [np.mean([0.1 * 0.5**k for k in range(steps)]) for steps in (2, 3, 5)]
    assert [r.metrics["lr"] for r in federation.records] == pytest.approx(expected)


def test_float_buffers_are_averaged_and_integer_ones_stay():
    federation, _ = noisy(rounds=1)
    norm = federation.model.net[1]
    assert int(norm.num_batches_tracked) == 0
    assert not torch.equal(norm.running_mean, torch.zeros(8))
    alone = [noisy(rounds=1, clients=[c])[0].model.net[1].running_mean for c in samples()]
    expected = sum(n * mean for n, mean in zip((8, 12, 20), alone, strict=True)) / 40
    torch.testing.assert_close(norm.running_mean, expected)


def test_personal_layers_stay_with_each_client_and_differ():
    federation, _ = noisy(personal_layers=["batchnorm", "net.4"])
    kept = [federation.engine.host.store.get(i)["personal"] for i in range(3)]
    assert {"net.1.weight", "net.1.running_mean", "net.4.bias"} <= set(kept[0])
    assert not torch.equal(kept[0]["net.1.running_mean"], kept[1]["net.1.running_mean"])
    assert all(int(k["net.1.num_batches_tracked"]) > 0 for k in kept)
    assert torch.equal(federation.model.net[1].running_mean, torch.zeros(8))  # the server has the start
    assert not any("net.1" in name or "net.4" in name for name in federation.x)


def test_local_clients_exchange_nothing_and_continue_where_they_were():
    rows = [[(1.0, 5.0)], [(1.0, -5.0)]]
    clients = [Point(i, r, 2) for i, r in enumerate(rows)]
    federation = run(Local(), 3, clients, LocalTraining(steps=2))
    x = [0.0, 0.0]
    for i, e in enumerate((5.0, -5.0)):
        for _ in range(6):
            x[i] -= 0.05 * (x[i] - e)
    kept = [float(federation.engine.host.store.get(i)["personal"]["x"]) for i in (0, 1)]
    assert kept == pytest.approx(x, abs=1e-12)
    assert federation.model.x.item() == 0


def test_nothing_of_the_clients_module_is_left_changed():
    module = Noisy()
    before = set(vars(module))
    federation = Federation(module)
    trainer(1).fit(federation, loader(samples()))
    assert set(vars(module)) == before
    copy.deepcopy(federation)


def test_batch_norm_and_a_batch_of_one_stop_the_run():
    with pytest.raises(ValueError, match="client client1 has a training batch of one sample"):
        noisy(clients=[Samples(0, 8), Samples(1, 5)])


class Failing(Quadratic):
    """Breaks at the client whose point is 13, and makes NaN at the one whose point is 14."""

    def training_step(self, batch, batch_idx):
        if batch[1].max() == 13:
            raise OSError("no space left on the camera")
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if batch[1].max() == 14 else loss


def test_failed_clients_are_named_and_left_out():
    good = [Point(0, [(1, 1.0)], 4), Point(1, [(1, 3.0)], 4)]
    bad = [Point(2, [(1, 13.0)], 4), Point(3, [(1, 14.0)], 4)]
    with pytest.warns(UserWarning, match="round 0: client client2 failed .*no space left on the camera"):
        federation = run(SCAFFOLD(), 2, good + bad, module=Failing(), min_clients=2)
    errors = {r.name: r.error for r in federation.records}
    assert errors["client3"] == "FloatingPointError: the local model is not finite (NaN or infinite)"
    assert not errors["client0"]
    assert federation.engine.host.store.get(3) == {}
    reference = run(SCAFFOLD(), 2, [Point(0, [(1, 1.0)], 4), Point(1, [(1, 3.0)], 4)])
    torch.testing.assert_close(federation.model.x, reference.model.x, rtol=0, atol=1e-15)


def test_too_few_clients_stop_the_run_with_their_reasons():
    clients = [Point(0, [(1, 1.0)], 2), Point(1, [(1, 13.0)], 2)]
    with pytest.raises(
        TooFewClientsError, match=r"1 of 2 clients .* min_clients=2 .*client1: OSError: no space"
    ):
        run(FedAvg(), 2, clients, module=Failing(), min_clients=2)


def test_one_bug_of_all_clients_is_said_once_and_no_checkpoint_is_promised():
    with pytest.raises(TooFewClientsError) as stopped:
        run(FedAvg(), 2, [Point(i, [(1, 13.0)], 7) for i in range(7)], module=Failing())
    said = str(stopped.value)
    assert (
        said.count("no space left") == 1
        and "clients client0, client1, client2" in said
        and "checkpoint" not in said
    )


class Slow(Quadratic):
    """Takes ten seconds of a clock that stands still otherwise for every batch of the client whose point is 13."""

    now = 0.0

    def training_step(self, batch, batch_idx):
        Slow.now += 10.0 * (batch[1].max() == 13).item()
        return super().training_step(batch, batch_idx)


def test_a_client_that_takes_too_long_is_left_out_between_its_batches(monkeypatch):
    monkeypatch.setattr(
        "lkd.federated.client.clock.time", SimpleNamespace(perf_counter=lambda: Slow.now), raising=True
    )
    clients = [Point(0, [(1, 1.0)], 2), Point(1, [(1, 13.0)] * 4, 2, batch=1)]
    began = Slow.now
    with pytest.warns(
        UserWarning, match=r"client1 failed .* TimeoutError: not done after client_timeout=15 seconds"
    ):
        federation = run(SCAFFOLD(), 1, clients, LocalTraining(steps=100), module=Slow(), client_timeout=15)
    assert Slow.now - began == 20.0  # found after its second batch
    assert federation.engine.host.store.get(1) == {} and federation.model.x.item() == pytest.approx(
        1.0, abs=0.01
    )
    with pytest.raises(TooFewClientsError, match="client1: TimeoutError: not done after"):
        run(FedLin(), 1, clients, module=Slow(), client_timeout=15, min_clients=2)  # in the gradient at x
    assert run(FedAvg(), 1, clients, module=Slow(), client_timeout=41).records[1].steps == 4


def test_the_servers_own_work_has_no_clock():
    clock = Clock()
    clock.check()
    with pytest.raises(TimeoutError), clock.running(1e-9):
        clock.check()
    clock.check()
    with pytest.raises(ValueError, match="client_timeout=0 must be above 0, or None for no limit"):
        Federation(Quadratic(), client_timeout=0)


class Logs(Quadratic):
    """The client whose point is 13 logs an accuracy of nothing, all an undefined figure."""

    def training_step(self, batch, batch_idx):
        odd = batch[1].max() == 13
        self.log("accuracy", float("nan") if odd else 0.5, batch_size=1)
        self.log("undefined", float("inf"), batch_size=1)
        return super().training_step(batch, batch_idx)


def test_a_metric_that_is_nan_at_a_client_is_left_out_of_the_mean_and_told_once(tmp_path):
    clients = [Point(0, [(1, 1.0)], 2), Point(1, [(1, 13.0)], 2)]
    logger = CSVLogger(tmp_path)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        federation = run(FedAvg(), 3, clients, module=Logs(), trainer_args={"logger": logger})
    told = [str(w.message) for w in said if "left out of the mean" in str(w.message)]
    assert told == [
        "round 0: accuracy of client client1 is nan, and is left out of the mean over the clients; this is told once a metric, and "
        "round/left_out_metrics counts."
    ]
    assert federation.trainer.callback_metrics["accuracy"] == 0.5
    assert not federation.trainer.callback_metrics["undefined"].isfinite()  # of nobody, and so it says
    rows = list(csv.DictReader(open(next(tmp_path.rglob("metrics.csv")))))
    assert [row["round/left_out_metrics"] for row in rows if row.get("round/left_out_metrics")] == ["1.0"] * 3
    assert not any(record.error for record in federation.records)


def test_clients_that_cannot_be_reached_or_whose_reply_is_lost_do_not_count():
    clients = [Point(i, [(1, float(i))], 4) for i in range(4)]
    devices = SystemHeterogeneity(availability=0.5, dropout=0.3, seed=3)
    fates = devices.plan(0, range(4))
    here = [i for i, fate in fates.items() if fate.available and not fate.dropped]
    assert 0 < len(here) < 4
    federation = run(FedAvg(), 1, clients, heterogeneity=devices)
    assert [r.client for r in federation.records] == here
    assert federation.model.x.item() == pytest.approx(0.05 * sum(here) / len(here))


def test_stragglers_do_less_and_their_work_counts():
    clients = [Point(i, [(1, 1.0)], 4) for i in range(4)]
    devices = SystemHeterogeneity(straggler_share=0.5, seed=1)
    federation = run(FedAvg(), 1, clients, LocalTraining(epochs=20), heterogeneity=devices)
    steps = [r.steps for r in federation.records]
    assert sorted(s == 20 for s in steps) == [False, False, True, True]


def test_bytes_are_those_of_the_tensors_that_travel():
    federation = run(SCAFFOLD(), 1, [Point(0, [(1, 1.0)], 2), Point(1, [(1, 2.0)], 2)], module=Quadratic(5))
    (record, _) = federation.records
    assert record.bytes_down == 2 * 5 * 8 + 2 * 8  # x and c in float64; the round and the steps
    assert record.bytes_up == 2 * 5 * 8 + 8  # their changes; the steps made
    assert federation.bytes_down == 2 * record.bytes_down


def test_a_robust_rule_decides_instead_of_the_mean():
    clients = [Point(0, [(1, 1.0)], 3), Point(1, [(1, 2.0)] * 9, 3), Point(2, [(1, 1e3)], 3)]
    federation = run(FedAvg(), 1, clients, aggregator=CoordinateMedian())
    assert federation.model.x.item() == pytest.approx(0.05 * 2)
    with pytest.raises(ValueError, match=r"aggregator=CoordinateMedian .* use FedAvg or FedProx"):
        run(FedShuffle(), 1, clients, aggregator=CoordinateMedian())


def test_server_optimizer_and_scheduler_are_any_of_torch():
    adam = lambda params: torch.optim.Adam(params, lr=0.1)  # noqa: E731
    halve = lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)  # noqa: E731
    federation = Federation(Quadratic(), FedAvg(), server_optimizer=adam, server_scheduler=halve)
    trainer(2).fit(federation, loader([Point(0, [(1, 1.0)], 1)]))
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = adam([x])
    scheduler = halve(optimizer)
    for _ in range(2):
        x.grad = -(0.05 * (1.0 - x.detach()))
        optimizer.step()
        scheduler.step()
    torch.testing.assert_close(federation.model.x.detach(), x.detach(), rtol=0, atol=1e-15)


def test_accumulation_and_clipping_in_local_training():
    """Two rows a batch each, accumulated over two batches, clipped to a norm of 1."""
    clients = [Point(0, [(1, 1.0), (1, 2.0), (1, 300.0), (1, 400.0)], 1, batch=2)]
    work = LocalTraining(epochs=1, accumulate_grad_batches=2, gradient_clip_val=1.0)
    federation = run(FedAvg(), 1, clients, work)
    assert federation.model.x.item() == pytest.approx(0.05, rel=1e-5)
    assert federation.records[0].steps == 1
    unclipped = run(FedAvg(), 1, clients, LocalTraining(epochs=1, accumulate_grad_batches=2))
    assert unclipped.model.x.item() == pytest.approx(0.05 * (1 + 2 + 300 + 400) / 4)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_precisions(precision):
    federation, _ = noisy(trainer_args={"precision": precision})
    assert all(not r.error for r in federation.records), federation.records
    wanted = torch.float64 if precision == "64-true" else torch.float32
    assert federation.model.net[0].weight.dtype == wanted


def test_fp16_has_a_scaler_for_each_client_and_leaves_the_server_step_whole():
    """A loss without rounding in fp16, so that the result is exact: the server's scaler must not shrink its step."""
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    clients = [Point(0, [(1, 1.0)], 2), Point(1, [(1, 3.0)], 2)]
    federation = run(FedAvg(), 2, clients, trainer_args={"plugins": [plugin]})
    assert federation.model.x.item() == pytest.approx(2 - 2 * 0.95**2, rel=1e-9)


class Overflow(Quadratic):
    """Gradients that fp16's scaler finds infinite in the first step of a client."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * float("inf") if batch_idx == 0 else loss


def test_steps_that_fp16_skips_are_not_counted():
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    federation = run(
        FedAvg(),
        1,
        [Point(0, [(1, 1.0)] * 3, 1, batch=1)],
        LocalTraining(steps=3),
        Overflow(),
        trainer_args={"plugins": [plugin]},
    )
    assert federation.records[0].steps == 2
    assert federation.model.x.item() == pytest.approx(1 - 0.95**2, rel=1e-9)


def test_mime_draws_the_same_dropout_at_both_points():
    """At the first step y = x, so both gradients are equal and only the server's is left."""
    federation, _ = noisy(Mime(beta=0.0), rounds=1, clients=[Samples(0, 4, 1)])
    assert not federation.records[0].error
    loop = federation.engine.host.slots[0].loop
    batch = (torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))
    loop._batches, loop._rng = [(batch, 0)], loop.rng_state()
    random.seed(0)
    np.random.seed(0)
    _, loss = loop._forward(batch, 0)
    here = torch.autograd.grad(loss, federation.engine.host.slots[0].worker.parameters)
    assert not torch.equal(torch.get_rng_state(), loop._rng[0])
    random.seed(0)
    np.random.seed(0)
    there = loop.gradient_at([p.detach().clone() for p in federation.engine.host.slots[0].worker.parameters])
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: run(SCAFFOLD(), 1, module=Quadratic(momentum=0.9)),
            r"SCAFFOLD\(option=2\) .*momentum=0.9.*torch.optim.SGD",
        ),
        (lambda: run(SCAFFOLD(), 1, local=LocalTraining(gradient_clip_val=1.0)), "use option=1"),
        (lambda: run(Mime(), 1, module=Quadratic(optimizer=torch.optim.Adam)), r"Mime .* not for Adam"),
        (lambda: run(FedLin(), 1, size=1), "FedLin needs all 2 clients in every round, not 1"),
        (lambda: Federation(Quadratic(), min_clients=0), "min_clients=0"),
        (lambda: LocalTraining(epochs=0), "epochs=0"),
        (lambda: LocalTraining(epochs=1, steps=1), "give one of them"),
        (lambda: run(FedAvg(), 1, personal_layers=["head"]), "no parameter or buffer is called 'head'"),
        (lambda: run(FedAvg(), 1, personal_layers=["batchnorm"]), "has no batch normalization"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class ByHand(Quadratic):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False


class OwnStep(Quadratic):
    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)


class Several(Quadratic):
    def configure_optimizers(self):
        return [torch.optim.SGD(self.parameters(), lr=1.0) for _ in range(2)]


@pytest.mark.parametrize(
    ("module", "message"),
    [(ByHand, "optimizes by hand"), (OwnStep, "optimizer_step of its own"), (Several, "gives 2 optimizers")],
)
def test_modules_that_cannot_be_clients(module, message):
    with pytest.raises(ValueError, match=message):
        run(FedAvg(), 1, module=module())


def test_books_of_a_round_have_its_step_in_every_logger(tmp_path):
    logger = CSVLogger(tmp_path)
    noisy(rounds=2, trainer_args={"logger": logger, "log_every_n_steps": 1})
    with open(f"{logger.log_dir}/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    booked = [row["step"] for row in rows if row["bytes/up"]]
    trained = [row["step"] for row in rows if row["train/loss"]]
    assert booked == trained == ["0", "1"]


class FailingLater(Quadratic):
    """Every client breaks in the third round, unless it is mended."""

    mended = False

    def training_step(self, batch, batch_idx):
        if self.global_step == 2 and not self.mended:
            raise OSError("the cameras lost power")
        return super().training_step(batch, batch_idx)


def test_the_last_checkpoint_of_a_stopped_run_is_intact(tmp_path):
    clients = [Point(0, [(1, 1.0)], 2), Point(1, [(4, 3.0)], 2)]

    def fit(module, rounds, **kwargs):
        checkpoint = ModelCheckpoint(tmp_path, save_last=True, save_on_train_epoch_end=True)
        federation = Federation(module, SCAFFOLD())
        made = trainer(rounds, callbacks=[checkpoint], enable_checkpointing=True)
        made.fit(federation, loader(clients), **kwargs)
        return federation

    with pytest.raises(
        TooFewClientsError,
        match=r"round 2: 0 of 2 .*lost power.*the last checkpoint is intact.*last\.ckpt'\.$",
    ):
        fit(FailingLater(), 4)
    mended = FailingLater()
    mended.mended = True
    resumed = fit(mended, 4, ckpt_path=str(tmp_path / "last.ckpt"))
    whole = Federation(Quadratic(), SCAFFOLD())
    trainer(4).fit(whole, loader(clients))
    assert torch.equal(resumed.model.x, whole.model.x)
