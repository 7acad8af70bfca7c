"""Metrics of which less is better are known by their names."""

import pytest

from lkd.callbacks.clients import summary
from lkd.edge.export.measure import check_drop
from lkd.metrics.direction import rises

FALLING = (
    "val/loss val-loss val.loss valLoss val/losses MSELoss train_loss_epoch val/loss_acc loss@5 nll NLLs test/NLL ece brier "
    "wer cer fid mape rmsle bpd ppl perplexity err error errors top1_err top1err hamming_distance cross_entropy "
    "crossEntropy val/ce neg_log_likelihood false_positive_rate client/test/RMSE/mean acc_loss logloss false_free"
).split()
RISING = (
    "acc val/acc test/accuracy mAP50 map50-95 f1 R2 test/glossy bossy error_free_rate error_recall distance_accuracy "
    "neg_mean_squared_error neg_log_loss log_likelihood acc_fp16 ace/of_base certainty fidelity mine unknown images_per_second "
    "error_reduction macro wernicke"
).split()


@pytest.mark.parametrize("name", FALLING)
def test_less_is_better(name):
    assert not rises(name)


@pytest.mark.parametrize("name", RISING)
def test_more_is_better(name):
    assert rises(name)


def test_best_and_worst_and_limits_go_by_it():
    (row,) = summary({"C1": {"test/nll": 0.5}, "C2": {"test/nll": 2.0}})
    assert (row["best"], row["worst"]) == (0.5, 2.0)
    with pytest.raises(ValueError, match=r"test/nll of the file is 0\.9000, .*worse by 0\.5000"):
        check_drop({"test/nll": 0.4}, {"test/nll": 0.9}, 0.01)
