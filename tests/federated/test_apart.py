"""Nothing of one client, pass or fit reaches the next, and hooks are called as Lightning calls them."""

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import SumMetric
from torchmetrics.classification import MulticlassAccuracy

from lkd.datamodules import IID, FederatedDataModule
from lkd.distillation.adapters import ADAPTERS
from lkd.federated import (
    MOON,
    SCAFFOLD,
    Centralized,
    CoordinateMedian,
    FedAvg,
    Federation,
    FedLin,
    FedNova,
    FedNTD,
    FedShuffle,
    Krum,
    Local,
    LocalTraining,
    Mime,
    MimeLite,
    NormClipping,
    SystemHeterogeneity,
)
from lkd.federated.server.round import TooFewClientsError

from .job import Blobs
from .quadratic import Point, Quadratic, loader, run, trainer, two_clients
from .test_loss_level import Net, Net3
from .test_rounds import Noisy, noisy, samples


class Counting(Quadratic):
    """Counts its steps in a metric, in buffers of all kinds, and in a buffer that it assigns anew."""

    def __init__(self, fails=()):
        super().__init__()
        self.metric, self.fails = SumMetric(), fails
        self.register_buffer("loose", torch.zeros(1), persistent=False)
        self.register_buffer("assigned", torch.zeros(1))

    def training_step(self, batch, batch_idx):
        self.metric.update(1.0)
        self.loose += 1
        self.assigned = self.assigned + 1
        self.log("loose", self.loose.clone())
        self.log("assigned", self.assigned)
        if float(batch[0][0]) in self.fails:
            raise RuntimeError("this one fails")
        return super().training_step(batch, batch_idx)

    def on_train_epoch_end(self):
        self.log("metric", self.metric)


@pytest.mark.parametrize("algorithm", [FedAvg, MimeLite, FedLin])
def test_metrics_and_buffers_begin_anew_for_every_client(algorithm):
    federation = run(algorithm(), 2, module=Counting())
    found = [[r.metrics[name] for name in ("metric", "loose", "assigned")] for r in federation.records]
    assert found == [[1, 1, 2]] * 2  # the shared buffer was averaged after the first round
    assert federation.model.assigned.item() == 2


def test_figures_of_a_client_that_fails_are_forgotten():
    federation = run(FedAvg(), 1, module=Counting(fails=[1.0]))
    assert federation.records[0].error
    assert federation.records[1].metrics["metric"] == 1


class Wide(Quadratic):
    """Logs a metric that is no number."""

    def __init__(self):
        super().__init__()
        self.accuracy = MulticlassAccuracy(3, average=None)

    def training_step(self, batch, batch_idx):
        self.accuracy.update(torch.tensor([0]), torch.tensor([0]))
        self.log("acc", self.accuracy)
        return super().training_step(batch, batch_idx)


def test_a_client_whose_metric_is_no_number_fails_by_name_and_keeps_its_state():
    federation = Federation(Wide(), SCAFFOLD(), LocalTraining(steps=1))
    with pytest.raises(TooFewClientsError, match=r"client1: ValueError: self.log\('acc', ...\)"):
        trainer(1).fit(federation, loader(two_clients()))
    assert len(federation.engine.host.store) == 0


def test_rates_that_are_tensors_are_scaled_for_one_client_alone():
    def make(parameters):
        return torch.optim.SGD(parameters, lr=torch.tensor(0.05, dtype=torch.float64))

    plain = run(FedLin(), 3, local=LocalTraining(steps=5))
    tensors = run(FedLin(), 3, local=LocalTraining(steps=5), module=Quadratic(optimizer=make))
    assert tensors.model.x.item() == pytest.approx(plain.model.x.item(), rel=1e-12)


def test_a_second_fit_starts_the_variates_of_server_and_clients_anew():
    federation = Federation(Quadratic(), SCAFFOLD(), LocalTraining(steps=2))
    for rounds in (3, 1):
        trainer(rounds).fit(federation, loader(two_clients()))
    variates = [federation.engine.host.store.get(i)["c"]["x"] for i in range(2)]
    assert torch.allclose(federation.algorithm.state["c"]["x"], sum(variates) / 2)


@pytest.mark.parametrize(("algorithm", "module"), [(lambda: MOON("body"), Net), (FedNTD, Net3)])
def test_a_term_in_the_loss_is_added_once_however_often_it_is_fitted(algorithm, module):
    federation = Federation(module(), algorithm(), LocalTraining(steps=1))
    trainer(1).fit(federation, loader(samples()))
    step = federation.students[0].training_step
    trainer(1).fit(federation, loader(samples()))
    assert federation.students[0].training_step is step


def test_a_term_in_the_loss_is_rehearsed_in_the_precision_of_the_run():
    federation = Federation(Net(), MOON("body"), LocalTraining(steps=1))
    trainer(1, precision="64-true").fit(federation, loader(samples()))
    assert all(not r.error for r in federation.records)


def test_attaching_leaves_the_cohorts_of_a_resumed_epoch_alone(tmp_path):
    def fit(steps, name, ckpt_path=None):
        torch.manual_seed(0)
        federation = Federation(Net(), MOON("body"), LocalTraining(steps=1))
        data = FederatedDataModule(Blobs(), IID(), clients=6, cohort=2, cohorts_per_epoch=4)
        saves = ModelCheckpoint(tmp_path / name, every_n_train_steps=1, save_last=True)
        made = trainer(1, max_steps=steps, enable_checkpointing=True, callbacks=[saves])
        made.fit(federation, datamodule=data, ckpt_path=ckpt_path)
        return federation.model.state_dict()

    whole = fit(4, "whole")
    fit(2, "half")
    resumed = fit(4, "rest", tmp_path / "half" / "last.ckpt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_rule_clips_the_change_of_the_buffers_and_not_the_buffers():
    federation, _ = noisy(rounds=1, aggregator=NormClipping(max_norm=1e-6))
    assert torch.allclose(federation.model.net[1].running_var, torch.ones(8), atol=1e-4)


class Hooked(Net):
    """Notes the hooks that are called, and doubles images on their way to the device."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [2 * batch[0], batch[1]]

    def training_step(self, batch, batch_idx):
        self.calls.append(("step", batch[0].sum().item()))
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx, dataloader_idx):
        self.log(f"val/sum{dataloader_idx}", batch[0].sum())

    def on_after_backward(self):
        self.calls.append("after backward")

    def on_before_optimizer_step(self, optimizer):
        self.calls.append(("before step", self.head.bias.grad.norm().item() > 1e-3))
        self.before = self.head.bias.clone()

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.calls.append(("end", not torch.equal(self.before, self.head.bias)))


def test_hooks_come_in_lightnings_order_and_before_clipping():
    client = samples()[0]
    given = 2 * client.x.sum().item()
    federation = Federation(Hooked(), FedAvg(), LocalTraining(steps=1, gradient_clip_val=1e-4))
    client.batch = client.num_samples
    trainer(1).fit(federation, loader([client]))
    step, *rest = federation.students[0].calls
    assert step == ("step", pytest.approx(given, rel=1e-5))
    assert rest == ["after backward", ("before step", True), ("end", True)]


def test_validation_with_two_loaders_and_a_hook_of_the_clients():
    sets = [TensorDataset(torch.full((4, 3), float(k)), torch.zeros(4).long()) for k in (1, 2)]
    made = trainer(1)
    made.fit(Federation(Hooked()), loader(samples()), [DataLoader(data, batch_size=4) for data in sets])
    found = {name: float(value) for name, value in made.callback_metrics.items()}
    assert found["val/sum0/dataloader_idx_0"] == 24
    assert found["val/sum1/dataloader_idx_1"] == 48


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_batches_come_in_half_precision(precision):
    federation, _ = noisy(rounds=1, trainer_args={"precision": precision})
    assert federation.model.net[0].weight.dtype in (torch.bfloat16, torch.float16)
    assert all(not r.error for r in federation.records)


@pytest.mark.parametrize("algorithm", [FedAvg(), Centralized(), FedShuffle(rate="step")])
def test_a_round_that_nobody_can_join_says_so(algorithm):
    with pytest.raises(TooFewClientsError, match="nobody was there"):
        run(algorithm, 1, heterogeneity=SystemHeterogeneity(dropout=1.0))


class Overflow(Quadratic):
    """Without a usable gradient in the second round."""

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * (float("inf") if self.global_step else 1)


def test_a_client_that_makes_no_step_keeps_its_variate():
    plugins = [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))]
    clients = [Point(0, [(1, 1.0)], 2), Point(1, [(1, 3.0)], 2)]
    federation = run(SCAFFOLD(), 2, clients, module=Overflow(), trainer_args={"plugins": plugins})
    assert [r.steps for r in federation.records] == [0, 0]
    assert [federation.engine.host.store.get(i)["c"]["x"].item() for i in range(2)] == pytest.approx([-1, -3])


def test_a_server_scheduler_that_waits_for_a_metric_is_refused():
    with pytest.raises(ValueError, match="server_scheduler=ReduceLROnPlateau"):
        run(FedAvg(), 1, server_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau)


def test_a_checkpoint_before_any_training(tmp_path):
    made = trainer(1)
    data = DataLoader(TensorDataset(torch.ones(4, 3), torch.zeros(4).long()), batch_size=4)
    made.validate(Federation(Hooked()), data, verbose=False)
    made.save_checkpoint(tmp_path / "start.ckpt")
    assert (tmp_path / "start.ckpt").exists()


def test_statistics_of_adapters_stay_with_their_clients():
    federation = Federation(Net(), FedAvg(), LocalTraining(steps=2))
    student = federation.students[0]
    student.add_module(ADAPTERS, nn.BatchNorm1d(6))
    step = student.training_step

    def with_adapter(batch, batch_idx):
        getattr(student, ADAPTERS)(student.body(batch[0]))
        return step(batch, batch_idx)

    student.training_step = with_adapter
    trainer(1).fit(federation, loader(samples()))
    kept = [federation.engine.host.store.get(i)["personal"][f"{ADAPTERS}.running_mean"] for i in range(3)]
    assert not torch.equal(kept[0], kept[1])
    assert F.mse_loss(kept[0], torch.zeros(6)) > 0


def test_a_measurement_by_another_trainer_changes_nothing():
    def measure(trainer, federation):
        federation.evaluate([])

    federation, _ = noisy(SCAFFOLD(), rounds=2)
    before = (
        federation.algorithm.state["c"]["net.0.weight"].clone(),
        federation.engine.host.slots[0].local_optimizer.state_dict(),
    )
    data = DataLoader(TensorDataset(torch.ones(4, 3), torch.zeros(4).long()), batch_size=4)
    calls = LambdaCallback(on_validation_epoch_end=measure)
    federation.model.validation_step = lambda batch, batch_idx: None
    trainer(1, callbacks=[calls]).validate(federation, data, verbose=False)
    assert before[0].any()
    assert torch.equal(federation.algorithm.state["c"]["net.0.weight"], before[0])
    assert federation.engine.host.slots[0].local_optimizer.state_dict()["rounds"] == 2
    assert federation.engine.host.slots[0].local_optimizer.state_dict()["groups"] == before[1]["groups"]


class Witness(Noisy):
    """Writes down which of its hooks are called."""

    def __init__(self):
        super().__init__()
        self.called = []

    def configure_model(self):
        self.called.append("configure_model")

    def on_fit_start(self):
        self.called.append("on_fit_start")

    def on_fit_end(self):
        self.called.append("on_fit_end")

    def on_save_checkpoint(self, checkpoint):
        checkpoint["mine"] = 1


def test_the_clients_own_hooks_of_the_fit_and_of_checkpoints_are_called():
    module = Witness()
    federation, _ = noisy(rounds=1, module=module)
    assert set(module.called) == {"configure_model", "on_fit_start", "on_fit_end"}
    checkpoint = {}
    federation.on_save_checkpoint(checkpoint)
    assert checkpoint["mine"] == 1


@pytest.mark.parametrize(
    ("algorithm", "what"),
    [(SCAFFOLD(), "'c'"), (Mime(), "'gradient'"), (FedNova(), "'tau'")],
    ids=["c", "gradient", "tau"],
)
def test_a_robust_rule_is_refused_where_it_would_not_protect(algorithm, what):
    with pytest.raises(ValueError, match=f"aggregator=CoordinateMedian protects .*{what}"):
        run(algorithm, 1, aggregator=CoordinateMedian())


def test_krum_takes_weights_and_buffers_of_the_same_client():
    federation, _ = noisy(rounds=1, aggregator=Krum(byzantine=0), clients=samples())
    states = [noisy(rounds=1, clients=[c])[0].model.state_dict() for c in samples()]
    ours = federation.model.state_dict()
    close = [all(torch.allclose(ours[k], s[k], atol=1e-6) for k in ours) for s in states]
    assert sum(close) == 1


def test_sharing_nothing_under_fp16_is_refused():
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    with pytest.raises(ValueError, match="Local shares nothing"):
        noisy(Local(), trainer_args={"plugins": [plugin]})


def test_pooled_data_is_one_client_whatever_min_clients_says():
    run(Centralized(), 1, min_clients=2)


def test_fednova_whose_proximal_steps_overshoot_is_refused():
    with pytest.raises(ValueError, match=r"mu=30.0 and lr=0.05"):
        run(FedNova(mu=30.0), 1)
