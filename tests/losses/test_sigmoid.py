"""Distillation of sigmoids against loops, KD on two logits, its gradient, and training with one logit."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lkd.losses import KD, MultiTeacher, SigmoidKD, Standardized, kd_loss, sigmoid_kd_loss
from lkd.teachers import Ensemble, Teacher


def logits(seed, *shape):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(student, teacher, temperature):
    """The definition in loops: binary KL, summed over labels, mean over samples."""
    total = 0.0
    for s_row, t_row in zip(student.tolist(), teacher.tolist(), strict=True):
        for s, t in zip(s_row, t_row, strict=True):
            p, q = 1 / (1 + math.exp(-s / temperature)), 1 / (1 + math.exp(-t / temperature))
            total += q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_several_labels_are_the_sum_in_loops(temperature):
    student, teacher = logits(0, 6, 5), logits(1, 6, 5)
    value = sigmoid_kd_loss(student, teacher, temperature)
    assert value.item() == pytest.approx(reference(student, teacher, temperature), rel=1e-10)


def test_one_logit_is_kd_on_two():
    student, teacher = logits(0, 7, 1), logits(1, 7, 1)
    pairs = [torch.cat([z, torch.zeros_like(z)], 1) for z in (student, teacher)]
    expected = kd_loss(*pairs, temperature=3.0)
    for ours, theirs in ((student, teacher), (student[:, 0], teacher[:, 0]), (student, teacher[:, 0])):
        torch.testing.assert_close(sigmoid_kd_loss(ours, theirs, 3.0), expected)


def test_gradient_is_that_of_the_binary_cross_entropy_with_soft_targets():
    temperature = 2.0
    student, teacher = logits(0, 5, 4).requires_grad_(), logits(1, 5, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(sigmoid_kd_loss(student, teacher, temperature), student)
    soft = (teacher / temperature).sigmoid().detach()
    loss = F.binary_cross_entropy_with_logits(student / temperature, soft, reduction="sum") / len(student)
    torch.testing.assert_close(gradient, torch.autograd.grad(loss * temperature**2, student)[0])
    expected = temperature * ((student / temperature).sigmoid() - soft) / len(student)
    torch.testing.assert_close(gradient, expected)
    sigmoid_kd_loss(student, teacher).backward()
    assert teacher.grad is None


def test_maps_are_averaged_over_positions():
    student, teacher = logits(0, 2, 3, 4, 5), logits(1, 2, 3, 4, 5)
    rows = [z.movedim(1, -1).reshape(-1, 3) for z in (student, teacher)]
    torch.testing.assert_close(sigmoid_kd_loss(student, teacher), sigmoid_kd_loss(*rows))


def test_far_logits_stay_finite_and_half_is_raised():
    student = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    value = sigmoid_kd_loss(student, torch.tensor([[300.0, -300.0]]), 1.0)
    value.backward()
    assert value.item() == pytest.approx(400, rel=1e-5) and student.grad.tolist() == [[-1.0, 1.0]]
    assert sigmoid_kd_loss(student.half(), student.half()).dtype == torch.float32


def test_a_student_with_one_logit_learns_from_it():
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    teacher, student = Teacher(nn.Linear(4, 1)), nn.Linear(4, 1)
    term, optimizer = SigmoidKD(temperature=2.0), torch.optim.Adam(student.parameters(), lr=0.1)
    first = term(student(x), teacher(x)).item()
    for _ in range(100):
        optimizer.zero_grad()
        loss = term(student(x), teacher(x))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01 * first


def test_several_teachers_each_by_itself():
    student, teachers = logits(0, 5, 4), [logits(k, 5, 4) for k in (1, 2)]
    stacked = torch.stack(teachers, 1)
    expected = sum(sigmoid_kd_loss(student, t) for t in teachers) / 2
    torch.testing.assert_close(MultiTeacher(SigmoidKD(), "losses")(student, stacked), expected)
    for kwargs in ({}, {"combine": "losses", "weighting": "entropy"}):
        with pytest.raises(ValueError, match="SigmoidKD takes each logit as a probability of its own"):
            MultiTeacher(SigmoidKD(), **kwargs)
    with pytest.raises(ValueError, match=r"SigmoidKD takes each logit by itself.*leave Standardized out"):
        Standardized(SigmoidKD())


def test_bad_input():
    with pytest.raises(
        ValueError, match=r"student's logits are \(5, 4\), the teacher's \(5, 3\): .*same labels"
    ):
        sigmoid_kd_loss(logits(0, 5, 4), logits(0, 5, 3))
    with pytest.raises(ValueError, match="5 samples, the teacher's 4"):
        sigmoid_kd_loss(logits(0, 5), logits(0, 4))  # which would broadcast
    with pytest.raises(ValueError, match=r"temperature=.* must be above 0"):
        SigmoidKD(0.0)


def test_a_softmax_loss_in_a_run_on_one_logit_names_the_way_out():
    one = torch.zeros(4, 1)
    ensemble = Ensemble([Teacher(nn.Linear(4, 1)), Teacher(nn.Linear(4, 1))])
    for term, theirs in ((KD(), one), (MultiTeacher(KD()), ensemble(torch.zeros(4, 4)))):
        with pytest.raises(ValueError, match=r"softmax over 1 class is always 1 .*SigmoidKD"):
            term(one, theirs)
    with pytest.raises(ValueError, match=r"got \(4,\) of the student: give SigmoidKD"):
        KD()(one[:, 0], one[:, 0])
