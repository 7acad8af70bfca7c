"""What a client logs, and how its values become one."""

import torch
from torchmetrics import MetricCollection, SumMetric
from torchmetrics.classification import MulticlassAUROC, MulticlassAveragePrecision

from lkd.federated.client.logger import Log


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
