"""Correlation congruence: the polynomial in loops, and its limit, the Gaussian kernel."""

import math

import numpy as np
import pytest
import torch

from lkd.losses import CorrelationCongruence, cc_loss

B = 5


def points(seed, width=4):
    return torch.randn(B, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(student, teacher, kernel):
    tables = []
    for x in (student.numpy(), teacher.numpy()):
        unit = [row / np.sqrt(np.sum(row**2)) for row in x]
        tables.append([[kernel(a, b) for b in unit] for a in unit])
    return np.mean((np.array(tables[0]) - np.array(tables[1])) ** 2)


@pytest.mark.parametrize(("gamma", "order"), [(0.4, 2), (1.5, 1), (0.7, 4)])
def test_polynomial_in_loops_with_other_widths(gamma, order):
    def kernel(x, y):
        return math.exp(-2 * gamma) * sum(
            (2 * gamma) ** p / math.factorial(p) * (x @ y) ** p for p in range(order + 1)
        )

    student, teacher = points(0), points(1, 7)
    value = cc_loss(student, teacher, gamma, order)
    assert value.item() == pytest.approx(reference(student, teacher, kernel), rel=1e-10)
    torch.testing.assert_close(CorrelationCongruence(gamma, order)(student, teacher), value)


def test_a_high_order_is_the_gaussian_kernel_of_distances():
    student, teacher = points(0), points(1, 7)
    expected = reference(student, teacher, lambda x, y: math.exp(-0.4 * np.sum((x - y) ** 2)))
    assert cc_loss(student, teacher, 0.4, order=20).item() == pytest.approx(expected, rel=1e-10)
    assert cc_loss(student, teacher).item() == pytest.approx(expected, rel=0.5)  # order 2 is near it
    assert cc_loss(student, teacher).item() != pytest.approx(expected, rel=1e-3)


def test_rotation_and_scale_do_not_matter_but_shifts_do():
    student, teacher = points(0), points(1)
    rotation = torch.linalg.qr(points(2)[:4]).Q
    value = cc_loss(student, teacher)
    torch.testing.assert_close(cc_loss(3 * student @ rotation, teacher), value)
    assert (cc_loss(student + 2, teacher) - value).abs() > 1e-3


def test_zero_samples_have_a_finite_gradient_and_one_sample_has_none():
    student = points(0).float()
    student[2] = 0
    student.requires_grad_()
    value = cc_loss(student, points(1).float())
    value.backward()
    assert value.isfinite() and student.grad.abs().max() < 10
    assert cc_loss(points(0)[:1], points(1)[:1]) < 1e-15


def test_bad_input():
    for make in (CorrelationCongruence, lambda **kw: cc_loss(points(0), points(1), **kw)):
        with pytest.raises(ValueError, match=r"gamma=0.0 must be above 0"):
            make(gamma=0.0)
        with pytest.raises(ValueError, match=r"order=0 must be 1 or more"):
            make(order=0)
