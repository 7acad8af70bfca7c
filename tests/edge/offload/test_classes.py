"""Which class stands, and what a teacher would bring, by hand."""

import numpy as np
import pytest

from lkd.edge.offload.classes import ClassTask

from .drawn import answers, of_classes


def two(local, remote):
    made = [[{"probabilities": np.array(row)} for row in rows] for rows in (local, remote)]
    truth = [{"label": np.array([k])} for k in range(len(local))]
    return answers(made[0], [[one] for one in made[1]], [""] * len(local), truth, np.random.default_rng(0))


def test_the_gain_is_what_the_teacher_expects_to_add():
    made = two([[0.6, 0.4], [0.6, 0.4], [0.6, 0.4]], [[0.9, 0.1], [0.1, 0.9], [0.45, 0.55]])
    assert ClassTask().gain(made)[:, 0] == pytest.approx([0.0, 0.8, 0.1])


def test_a_sure_teacher_expects_what_it_brings():
    made = of_classes(count=2000)
    gain, real = ClassTask().gain(made), ClassTask().marginal(
        [one["probabilities"].argmax() == t["label"][0] for one, t in zip(made.local, made.truth, strict=True)],
        [[True]] * 2000,
        "acc",
    )  # fmt: skip
    assert gain.mean() == pytest.approx(real.sum() * 0.96, abs=0.01)


def test_which_class_stands():
    made = two([[0.6, 0.4]], [[0.1, 0.9]])
    task = ClassTask()
    for sent, label, right in (([False], 0, True), ([True], 1, False)):
        answer = task.stands(made, 0, np.array(sent))
        assert answer["probabilities"].argmax() == label and task.judged(answer, made.truth[0]) is right
    assert task.pooled([True, False, True, True]) == {"acc": 0.75}


def test_features_tell_doubt_and_class():
    made = ClassTask().features(of_classes(count=5, classes=4))
    assert made.shape == (5, 1, 4 + 4 + 4) and np.isfinite(made).all()
    assert (made[:, 0, -4:].sum(1) == 1).all()
