"""DIST against scipy's Pearson correlation, row by row and column by column."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import pearsonr

from lkd.losses import DIST, dist_loss

B, C = 5, 7


def logits(seed, dtype=torch.float64):
    return torch.randn(B, C, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def reference(student, teacher, temperature, beta, gamma):
    p, q = (softmax(z.numpy() / temperature, axis=1) for z in (student, teacher))
    rows = [pearsonr(p[i], q[i]).statistic for i in range(B)]
    columns = [pearsonr(p[:, c], q[:, c]).statistic for c in range(C)]
    return temperature**2 * (beta * (1 - np.mean(rows)) + gamma * (1 - np.mean(columns)))


@pytest.mark.parametrize(
    ("temperature", "beta", "gamma"), [(1.0, 1.0, 1.0), (4.0, 2.0, 2.0), (0.5, 1.0, 0.0), (2.0, 0.0, 3.0)]
)
def test_is_pearsons_correlation_of_rows_and_columns(temperature, beta, gamma):
    value = dist_loss(logits(0), logits(1), temperature, beta, gamma)
    assert value.item() == pytest.approx(reference(logits(0), logits(1), temperature, beta, gamma), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradcheck(temperature):
    student = logits(0).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: dist_loss(s, logits(1), temperature, 1.0, 2.0), student)


def test_equal_logits_are_the_minimum_up_to_the_authors_constant():
    student = logits(0).requires_grad_()
    value = dist_loss(student, logits(0))
    value.backward()
    assert 0 <= value < 1e-5
    assert student.grad.abs().max() < 1e-5


def test_a_scaled_distance_from_uniform_is_no_loss_where_kl_sees_one():
    p = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.1, 0.7, 0.2]], dtype=torch.float64)
    flat = 1 / 3 + 0.5 * (p - 1 / 3)
    assert dist_loss(flat.log(), p.log()) < 1e-6


def test_opposite_order_is_the_worst():
    student = torch.tensor([[2.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    assert dist_loss(student, student.flip(1)).item() == pytest.approx(
        4.0, abs=1e-6
    )  # both correlations are -1


@pytest.mark.parametrize("teacher", [torch.zeros(4, 3), torch.tensor([[90.0, 0.0, -90.0]] * 4)])
def test_constant_rows_and_columns_teach_nothing_but_stay_finite(teacher):
    student = torch.zeros(4, 3, requires_grad=True)
    value = dist_loss(student, teacher)
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all()


def test_of_a_batch_of_one_only_the_row_teaches():
    student, teacher = logits(0)[:1].requires_grad_(), logits(1)[:1]
    value = dist_loss(student, teacher, gamma=5.0)
    rows = dist_loss(student, teacher, gamma=0.0)
    assert value.item() == pytest.approx(rows.item() + 5.0)
    ours, theirs = (torch.autograd.grad(loss, student, retain_graph=True)[0] for loss in (value, rows))
    torch.testing.assert_close(ours, theirs)


def test_teacher_gets_no_gradient_and_half_precision_is_raised():
    student, teacher = logits(0, torch.bfloat16).requires_grad_(), logits(1, torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = dist_loss(student, teacher)
    exact = dist_loss(student.double(), teacher.double())
    torch.testing.assert_close(value.double(), exact, rtol=2e-5, atol=0)
    value.backward()
    assert value.dtype == torch.float32 and teacher.grad is None and student.grad.any()


def test_term_passes_its_settings_on_and_averages_layers():
    student, teacher = [logits(0), logits(1)], [logits(2), logits(3)]
    each = [dist_loss(s, t, 4.0, 2.0, 3.0) for s, t in zip(student, teacher, strict=True)]
    term = DIST(4.0, 2.0, 3.0, weight=7.0, student_layer="a", teacher_layer="b")
    torch.testing.assert_close(term(student, teacher), (each[0] + each[1]) / 2)
    assert (term.weight, term.student_layer, term.teacher_layer, term.needs_labels) == (7.0, "a", "b", False)
    assert term.relates_samples


def test_bad_input():
    with pytest.raises(ValueError, match=r"temperature=0.0 must be above 0"):
        dist_loss(logits(0), logits(1), 0.0)
    with pytest.raises(ValueError, match=r"temperature=-1.0 must be above 0"):
        DIST(-1.0)
    with pytest.raises(ValueError, match="softmax over 1 class is always 1"):
        dist_loss(logits(0)[:, :1], logits(1)[:, :1])
    with pytest.raises(ValueError, match="student has 7 classes, teacher 3"):
        dist_loss(logits(0), logits(1)[:, :3])
