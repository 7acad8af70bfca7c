"""What a client logs, and how its values become one."""

import pytest
import torch
from torchmetrics import MetricCollection, SumMetric
from torchmetrics.classification import MulticlassAUROC, MulticlassAveragePrecision

from lkd.federated import FedAvg, Federation, LocalTraining
from lkd.federated.client.logger import Log
from lkd.federated.engines import Loop, Processes, Stacked

from .quadratic import Point, Quadratic, loader, trainer


def test_a_metric_of_two_names_has_its_value_in_both():
    log, metric = Log(), SumMetric()
    metric.update(3.0)
    log("one", metric)
    log("other", metric)
    assert log.compute() == {"one": 3.0, "other": 3.0}
    assert float(metric.sum_value) == 0.0


def test_metrics_of_a_collection_share_what_they_have_seen():
    scores, labels = torch.rand(20, 3).softmax(1), torch.arange(20) % 3
    metrics = MetricCollection({"auroc": MulticlassAUROC(3), "ap": MulticlassAveragePrecision(3)})
    expected = {name: float(value) for name, value in metrics(scores, labels).items()}
    metrics.reset()
    log = Log()
    for _ in range(2):  # the second pass sees nothing of the first
        for part in (slice(12), slice(12, 20)):
            metrics.update(scores[part], labels[part])
        for name, metric in metrics.items(copy_state=False):  # as log_dict does
            log(name, metric)
        assert log.compute() == expected


class Weighs(Quadratic):
    """Logs without `batch_size`, and in a hook that it may have."""

    def training_step(self, batch, batch_idx):
        self.log("mean", batch[1].mean())
        self.log("sum", batch[1].mean(), reduce_fx="sum")
        self.log("given", batch[1].mean(), batch_size=1)
        return super().training_step(batch, batch_idx)


class InHooks(Weighs):
    """Logs in hooks, too: of a batch, and of an epoch."""

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.log("end", batch[1].mean())

    def on_train_epoch_end(self):
        self.log("epoch", 1.0)


def logged(module, engine, rows=5, **local):
    """What three clients log, whose batches are of two and of one."""
    federation = Federation(module, FedAvg(), LocalTraining(**local), engine=engine)
    points = [Point(k, [(1.0, [float(k + e)]) for e in range(rows)], 3, batch=2) for k in range(3)]
    trainer(1).fit(federation, loader(points))
    return [record.metrics for record in federation.records]


@pytest.mark.parametrize("engine", [Loop, Stacked, lambda: Processes(workers=1)])
def test_what_is_logged_without_a_size_is_weighed_by_the_batch(engine):
    found = logged(Weighs(lr=0.0), engine(), epochs=1)
    assert [each["mean"] for each in found] == pytest.approx([2.0, 3.0, 4.0])
    assert any(each["given"] != pytest.approx(each["mean"]) for each in found)
    assert [each["sum"] for each in found] == pytest.approx([3 * each["given"] for each in found])


def test_a_hook_after_a_batch_weighs_by_it_and_one_after_an_epoch_does_not():
    found = logged(InHooks(lr=0.0), Loop(), epochs=2)
    assert [each["end"] for each in found] == pytest.approx([2.0, 3.0, 4.0])
    assert [each["epoch"] for each in found] == [1.0, 1.0, 1.0]


def test_a_batch_that_does_not_tell_its_size_counts_as_one():
    log = Log()
    with pytest.warns(
        UserWarning, match=r"self\.log\('value', \.\.\.\) of a client has no batch_size, .* object"
    ):
        for value in (1.0, 3.0):
            log.at(object())
            log("value", value)
    assert log.compute() == {"value": 2.0}


class Numbers(Quadratic):
    """Its step depends on `batch_idx`, which it logs."""

    def training_step(self, batch, batch_idx):
        self.log("number", float(batch_idx), reduce_fx="sum")
        self.log("most", float(batch_idx), reduce_fx="max")
        return super().training_step(batch, batch_idx) * (1 + batch_idx)


NUMBERS = {"epochs": (2 * (0 + 1 + 2), 2), "steps": (0 + 1 + 2 + 0 + 1, 2)}


@pytest.mark.parametrize("engine", [Loop, Stacked, lambda: Processes(workers=1)])
@pytest.mark.parametrize("local", [{"epochs": 2}, {"steps": 5}])
def test_batches_are_numbered_anew_in_every_epoch(engine, local):
    found = logged(Numbers(), engine(), **local)
    assert [(each["number"], each["most"]) for each in found] == [NUMBERS[next(iter(local))]] * 3


def test_clients_of_a_stack_have_numbers_of_their_own():
    """Their epochs are of one, two, and three batches."""
    ends = []
    for engine in (Loop(), Stacked()):
        federation = Federation(Numbers(), FedAvg(), LocalTraining(steps=4), engine=engine)
        points = [Point(k, [(1.0, [float(k)])] * (k + 1), 3, batch=1) for k in range(3)]
        trainer(2).fit(federation, loader(points))
        assert [record.metrics["number"] for record in federation.records] == [0.0, 2.0, 3.0]
        ends.append(federation.model.x.item())
    assert ends[0] == pytest.approx(ends[1], abs=1e-12)
