"""Gates by hand, and what each of them may know."""

from dataclasses import replace

import numpy as np
import pytest

from lkd.edge.offload.boxes import BoxTask
from lkd.edge.offload.classes import ClassTask
from lkd.edge.offload.gates import (
    CameraMean,
    Entropy,
    Learned,
    LowScores,
    Margin,
    MaxProbability,
    NarrowBoxes,
    Oracle,
    Random,
    ScoreEntropy,
    UnsureBoxes,
    usual,
)
from lkd.edge.offload.gates.ridge import Ridge
from lkd.edge.offload.task import Judge
from lkd.edge.offload.tiles import Tiles

from ..drawn import answers, of_boxes, of_classes


def classes(*rows):
    found = [{"probabilities": np.array(row)} for row in rows]
    return answers(found, [[one] for one in found], [""] * len(rows), None, np.random.default_rng(0))


def boxes(*frames):
    """Of frames of (x1, y1, x2, y2, score)."""
    found = []
    for rows in frames:
        table = np.array(rows, np.float32).reshape(-1, 5)
        found.append({"boxes": table[:, :4], "scores": table[:, 4], "labels": np.zeros(len(table), np.int64)})
    return answers(found, [[one] for one in found], ["a"] * len(found), None, np.random.default_rng(0))


def test_doubts_of_a_classifier():
    made = classes([0.5, 0.5, 0.0], [0.7, 0.2, 0.1])
    task = ClassTask()
    assert Entropy().score(task, made)[:, 0] == pytest.approx([np.log(2), 0.80182], abs=1e-4)
    assert Margin().score(task, made)[:, 0] == pytest.approx([0.0, -0.5])
    assert MaxProbability().score(task, made)[:, 0] == pytest.approx([0.5, 0.3])


def test_statistics_of_boxes():
    made = boxes([(0, 0, 10, 10, 0.9), (0, 0, 30, 10, 0.3), (0, 0, 90, 9, 0.02)], [])
    task = BoxTask()
    assert NarrowBoxes().score(task, made)[:, 0] == pytest.approx([-0.2, -1.0])  # of the longer side, 100
    assert LowScores().score(task, made)[:, 0] == pytest.approx([-0.6, -1.0])
    assert UnsureBoxes().score(task, made)[:, 0] == pytest.approx([0.5, 0.0])
    one = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1)) - (0.3 * np.log(0.3) + 0.7 * np.log(0.7))
    assert ScoreEntropy().score(task, made)[:, 0] == pytest.approx([one, 0.0], abs=1e-6)


def test_a_tile_has_its_own_boxes():
    made = boxes([(0, 0, 10, 10, 0.9), (80, 0, 90, 10, 0.3)])
    found = ScoreEntropy().score(BoxTask(Tiles(2, 1)), replace(made, nbytes=np.ones((1, 2), int)))
    assert found.shape == (1, 2) and found[0, 0] < found[0, 1]


def test_random_follows_its_seed():
    made = of_boxes(count=6)
    assert np.array_equal(Random(3).score(BoxTask(), made), Random(3).score(BoxTask(), made))
    assert not np.array_equal(Random(3).score(BoxTask(), made), Random(4).score(BoxTask(), made))


def test_the_camera_mean_is_that_of_calibration():
    made, gate = of_boxes(), CameraMean()
    gain = BoxTask().gain(made)
    gate.fit(BoxTask(), made)
    test = of_boxes(1, 6, ("near", "new", "far"))
    found = gate.score(BoxTask(), test)[:, 0]
    assert found == pytest.approx(np.repeat([gain[20:].mean(), gain.mean(), gain[:20].mean()], 2))


@pytest.mark.parametrize("kind", ["boxes", "classes"])
def test_no_gate_but_the_oracle_reads_truth_or_the_teacher_of_what_it_scores(kind):
    task, drawn = (BoxTask(), of_boxes) if kind == "boxes" else (ClassTask(), of_classes)
    test = drawn(1)
    blind = replace(test, truth=None, remote=[[{}]] * len(test), server_ms=test.server_ms * np.nan)
    for gate in [*usual(kind, 2), Random()]:
        gate.fit(task, drawn(0, labeled=False))
        assert gate.score(task, blind).shape == (len(test), 1)


def test_the_learned_gate_finds_what_the_student_misses():
    calibration, test = of_boxes(0), of_boxes(1)
    gate = Learned()
    gate.fit(BoxTask(), calibration)
    assert np.corrcoef(gate.score(BoxTask(), test)[:, 0], BoxTask().gain(test)[:, 0])[0, 1] > 0.4


@pytest.mark.parametrize("gate", [Learned(cameras=False), Learned()])
def test_with_one_place_the_learned_gate_is_a_regression_on_the_features(gate):
    names = ("a",) if gate.cameras else ("a", "b")  # which it is not told
    calibration, test = of_boxes(0, cameras=names), of_boxes(1, cameras=names)
    gate.fit(BoxTask(), calibration)
    plain = Ridge(BoxTask().features(calibration)[:, 0], BoxTask().gain(calibration)[:, 0])
    assert gate.score(BoxTask(), test)[:, 0] == pytest.approx(plain(BoxTask().features(test)[:, 0]))
    of_new = gate.score(BoxTask(), replace(test, cameras=["new"] * len(test)))
    assert of_new == pytest.approx(gate.score(BoxTask(), test))


def test_where_nothing_differs_the_learned_gate_says_what_is_usual():
    one = boxes([(0, 0, 10, 10, 0.9)])
    same = replace(
        one,
        local=[one.local[0]] * 8,
        remote=[[{**one.local[0], "boxes": one.local[0]["boxes"] + 20 * (n < 4)}] for n in range(8)],
        cameras=["far"] * 4 + ["near"] * 4,
        sizes=np.tile(one.sizes, (8, 1)),
        nbytes=np.ones((8, 1), int),
    )
    assert BoxTask().gain(same)[:, 0] == pytest.approx([0.9] * 4 + [0.0] * 4)
    gate = Learned()
    gate.fit(BoxTask(), same)
    assert gate.score(BoxTask(), same)[:, 0] == pytest.approx([0.9] * 4 + [0.0] * 4, abs=0.01)


def test_the_learned_gate_of_a_classifier_agrees_with_doubt():
    gate, test = Learned(), of_classes(1)
    gate.fit(ClassTask(), of_classes(0))
    scores, doubt = gate.score(ClassTask(), test)[:, 0], Entropy().score(ClassTask(), test)[:, 0]
    assert np.corrcoef(scores, doubt)[0, 1] > 0.5


def test_labels_are_a_target_where_they_may_be_read():
    gate = Learned(labels=True)
    gate.fit(BoxTask(), of_boxes())
    plain = Learned()
    plain.fit(BoxTask(), of_boxes())
    assert not np.allclose(gate.score(BoxTask(), of_boxes(1)), plain.score(BoxTask(), of_boxes(1)))
    with pytest.raises(ValueError, match=r"Learned\(labels=true\) is taught by labels .* give labels=true"):
        gate.fit(BoxTask(), of_boxes(labeled=False))


def test_labels_teach_the_metric_that_decides():
    scores = {}
    for name, gate, metric in (
        ("map50", Learned(labels=True), "map50"),
        ("decides", Learned(labels=True), "recall"),
        ("own", Learned(labels=True, metric="recall"), "map50"),
    ):
        gate.serve(metric)
        gate.fit(BoxTask(), of_boxes())
        scores[name] = gate.score(BoxTask(), of_boxes(1))
    assert np.array_equal(scores["decides"], scores["own"])
    assert not np.allclose(scores["decides"], scores["map50"])


def test_the_oracle_of_a_classifier_knows_where_the_teacher_helps():
    test = of_classes()
    judge = Judge(ClassTask(), test)
    helps = [
        judge(np.arange(200)[:, None] == n)["acc"] - judge(np.zeros((200, 1), bool))["acc"]
        for n in range(200)
    ]
    assert Oracle("acc").score(ClassTask(), test)[:, 0] == pytest.approx(helps)


def test_the_oracle_of_a_detector_exchanges_one_frame_among_all():
    test = of_boxes(count=8)
    judge = Judge(BoxTask(), test)
    nothing = np.zeros((8, 1), bool)
    for metric in ("map50", "map", "recall"):
        found = Oracle(metric).score(BoxTask(), test)
        for n in (0, 5):
            alone = nothing.copy()
            alone[n] = True
            assert found[n, 0] == pytest.approx(judge(alone)[metric] - judge(nothing)[metric])


@pytest.mark.parametrize("gate", [Entropy(), Margin(), MaxProbability()])
def test_gates_of_classes_refuse_boxes(gate):
    with pytest.raises(
        ValueError, match=rf"gate={type(gate).__name__} reads classes, and this student answers with boxes"
    ):
        gate.check(BoxTask())


def test_what_a_report_compares():
    assert [g.name for g in usual("classes", 1)] == ["entropy", "margin", "max probability", "learned"]
    assert [g.name for g in usual("boxes", 6)][-2:] == ["camera mean", "learned"]
