"""Curves between two ends: no gate is better than who knows the labels, and an honest one than chance."""

from dataclasses import replace

import numpy as np
import pytest

from lkd.edge.offload.boxes import BoxTask
from lkd.edge.offload.classes import ClassTask
from lkd.edge.offload.curves import (
    SHARES,
    closed,
    costs,
    curve,
    ends,
    nothing_to_gain,
    random_curve,
    ranks,
    verdict,
)
from lkd.edge.offload.gates import CameraMean, Entropy, Gate, Learned, Oracle, Random
from lkd.edge.offload.link import Link
from lkd.edge.offload.point import Point
from lkd.edge.offload.trial import Conditions, Trial

from .drawn import of_boxes, of_classes

CONDITIONS = Conditions(Link(8.0, rtt_ms=10))


@pytest.mark.parametrize("kind", ["boxes", "classes"])
def test_from_chance_to_the_oracle(kind):
    task, drawn = (BoxTask(), of_boxes) if kind == "boxes" else (ClassTask(), of_classes)
    metric = task.metrics[0]
    test, gate = Trial(task, drawn(1), CONDITIONS), Learned()
    gate.fit(task, drawn(0, labeled=False))
    found = [random_curve(test, 8, 0), curve(gate, test), curve(Oracle(metric), test)]
    for share in (0.2, 0.4):
        chance, learned, oracle = (one[share].metrics[metric] for one in found)
        assert chance < learned <= oracle + 0.01
        assert all(one[share].rate <= share + 1e-9 for one in found)
    device, server = ends(test)
    assert device.metrics[metric] < server.metrics[metric]
    assert (
        server.p50_ms < test.point("a", np.ones(test.answers.nbytes.shape, bool)).p50_ms
    )  # it waits for nobody


def test_bytes_rise_with_the_share():
    found = curve(Random(), Trial(BoxTask(), of_boxes(), CONDITIONS))
    assert list(found) == list(SHARES)
    assert (np.diff([point.kb for point in found.values()]) > 0).all()


def test_a_gate_that_is_right_closes_the_whole_gap_with_less():
    test = Trial(ClassTask(), of_classes(), CONDITIONS)
    device, server = ends(test)
    wrong = 1 - device.metrics["acc"]
    oracle = curve(Oracle("acc"), test)
    assert all(p.metrics["acc"] == server.metrics["acc"] == 1 for share, p in oracle.items() if share > wrong)


def test_tiles_are_chosen_by_gain_for_each_byte():
    made = of_boxes(count=6)
    two = replace(made, remote=[[one[0], one[0]] for one in made.remote], nbytes=np.tile([10, 40], (6, 1)),
                  server_ms=np.ones((6, 2)))  # fmt: skip
    trial = Trial(BoxTask(), two, CONDITIONS)

    class Same(CameraMean):
        def score(self, task, answers):
            return np.ones(answers.nbytes.shape)

    assert ranks(Same(), trial)[0].tolist() == [0.1, 0.025]
    assert np.array_equal(costs(trial), two.nbytes)
    assert np.array_equal(costs(Trial(BoxTask(), made, CONDITIONS)), np.ones((6, 1)))
    assert ranks(Same(), Trial(BoxTask(), made, CONDITIONS))[0].tolist() == [1.0]


def point(value):
    return Point("a", 0.5, 0.5, 1.0, {"acc": value}, 1.0, 1.0)


def test_the_share_of_a_gap():
    assert closed(point(0.7), {"acc": 0.6}, {"acc": 0.8}, "acc") == pytest.approx(0.5)
    assert closed(point(0.7), {"acc": 0.8}, {"acc": 0.6}, "acc") is None


@pytest.mark.parametrize(
    ("learned", "word"),
    [
        (0.8, "better than the camera mean by 0.1"),
        (0.7, "No learned gate beats the camera mean"),
        (0.6, "No learned"),
    ],
)
def test_the_verdict(learned, word):
    curves = {"camera mean": {0.1: point(0.7)}, "learned": {0.1: point(learned)}}
    assert word in verdict(curves, "acc")
    assert verdict({"learned": curves["learned"]}, "acc") is None


def test_an_entropy_gate_needs_nothing_to_be_fitted():
    test = Trial(ClassTask(), of_classes(1), CONDITIONS)
    chance = random_curve(test, 8, 0)
    assert curve(Entropy(), test)[0.3].metrics["acc"] > chance[0.3].metrics["acc"] + 0.05


class Mine(Gate):
    """Somebody's own, that gives what it is told."""

    name = "mine"

    def __init__(self, given):
        self.given = given

    def score(self, task, answers):
        self.saw = answers
        return self.given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros(40), r"score of gate=Mine gives the shape \(40,\), .* \(40, 1\)"),
        (np.full((40, 1), np.nan), "score of gate=Mine gives NaN or infinity"),
    ],
)
def test_a_gate_of_somebodys_own_has_to_give_a_number_a_unit(given, message):
    with pytest.raises(ValueError, match=message):
        ranks(Mine(given), Trial(BoxTask(), of_boxes(), CONDITIONS))


def test_no_gate_sees_labels_or_the_teacher():
    gate = Mine(np.zeros((40, 1)))
    ranks(gate, Trial(BoxTask(), of_boxes(), CONDITIONS))
    assert gate.saw.truth is None and not len(gate.saw.remote) and len(gate.saw.local) == 40


def test_a_teacher_that_brings_nothing_is_said():
    device = Point("device-only", 0.0, 0.0, 0.0, {"map50": 0.7}, 1.0, 1.0)
    assert nothing_to_gain(device, {"map50": 0.8}, "map50") is None
    assert "no gap to close" in nothing_to_gain(device, {"map50": 0.7}, "map50")
