import numpy as np
import pytest

from lkd.edge.export.measure import check_drop
from lkd.edge.export.parity import Parity


def one(*numbers):
    return {"logits": np.array([numbers], np.float32)}


def test_differences_count_as_a_share_of_the_largest_output():
    parity = Parity(0.01)
    parity.compare(one(100, 0), one(100, 0.5))
    parity.compare(one(0.1, 0), one(0.1, 0.008))
    assert parity.samples == 2 and parity.difference == pytest.approx(0.008, rel=1e-3)
    for wanted, got, sentence in [
        (one(100, 0), one(100, 1.5), "differ from the module's by 0.015"),
        (one(0.1, 0), one(0.1, 0.02), "differ"),
        (one(np.nan, 0), one(np.nan, 0), "not finite"),
        (one(1, 0), one(np.nan, 0), "differ from the module's by nan"),
        (one(1, 0), one(1, 0, 0), r"the file gives logits \(1, 3\), the module \(1, 2\)"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            parity.compare(wanted, got)


def found(scores, shift=0.0, label=0):
    boxes = np.stack([np.array([20.0 * i, 0, 20 * i + 9, 9]) for i in range(len(scores))] or [np.zeros(4)])
    boxes = boxes[: len(scores)] + shift
    return {"boxes": boxes, "scores": np.array(scores), "labels": np.full(len(scores), label)}


@pytest.mark.parametrize(("got", "lost"), [
    (found([0.9, 0.5]), 0), (found([0.9, 0.5], shift=0.05), 0), (found([0.9]), 1), (found([0.9, 0.5], shift=3.0), 4),
    (found([0.9, 0.6]), 2), (found([0.9, 0.5], label=1), 4), (found([]), 2),
])  # fmt: skip
def test_detections_need_a_partner(got, lost):
    parity = Parity(0.001)
    parity.compare_detections([found([0.9, 0.5])], [got], side=64)
    assert parity.lost == lost
    if lost:
        with pytest.raises(ValueError, match=f"{lost} of .* detections of module and file have no partner"):
            parity.check()
    else:
        parity.check()


def test_nothing_compared_is_no_proof():
    with pytest.raises(ValueError, match="nothing was compared"):
        Parity(0.1).check()


@pytest.mark.parametrize(("before", "after", "sentence"), [
    ({"test/acc": 0.9}, {"test/acc": 0.8}, "test/acc of the file is 0.8000, of the checkpoint 0.9000: worse by 0.1000"),
    ({"test/loss": 0.1}, {"test/loss": 0.2}, "test/loss of the file"),
    ({"map": 0.5, "map50": 0.6}, {"map": float("nan"), "map50": 0.6}, "map of the file is nan"),
    ({"map": float("nan")}, {"map": float("nan")}, "no metric of the test data is a number"),
    ({"a": 1.0}, {"b": 1.0}, "no metric"),
])  # fmt: skip
def test_what_is_worse_is_refused(before, after, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_drop(before, after, 0.05)


def test_what_is_better_or_a_little_worse_passes():
    check_drop(
        {"test/acc": 0.9, "test/loss": 0.2, "x": float("nan")}, {"test/acc": 0.99, "test/loss": 0.24}, 0.05
    )
