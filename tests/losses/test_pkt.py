"""Probabilistic knowledge transfer against loops in numpy."""

import numpy as np
import pytest
import torch

from lkd.losses import pkt_loss

B = 5


def points(seed, width=4, batch=B):
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(student, teacher):
    def probabilities(x):
        table = np.zeros((len(x), len(x)))
        for i in range(len(x)):
            for j in range(len(x)):
                if i != j:
                    cosine = x[i] @ x[j] / (np.linalg.norm(x[i]) * np.linalg.norm(x[j]))
                    table[i, j] = (cosine + 1) / 2
            table[i] /= table[i].sum()
        return table

    p, q = probabilities(teacher.numpy()), probabilities(student.numpy())
    return sum(p[i, j] * np.log(p[i, j] / q[i, j]) for i in range(B) for j in range(B) if i != j) / B


def test_in_loops_with_other_widths():
    student, teacher = points(0), points(1, 7)
    assert pkt_loss(student, teacher).item() == pytest.approx(reference(student, teacher), rel=1e-10)


def test_the_teachers_probabilities_weigh():
    student, teacher = points(0), points(1)
    assert pkt_loss(teacher, student).item() == pytest.approx(reference(teacher, student), rel=1e-10)
    assert abs(pkt_loss(teacher, student) - pkt_loss(student, teacher)) > 1e-3


def test_rotation_and_scale_do_not_matter_but_shifts_do():
    student, teacher = points(0), points(1)
    rotation = torch.linalg.qr(points(2, batch=4)).Q
    lengths = torch.tensor([1.0, 2.0, 0.1, 5.0, 3.0], dtype=torch.float64)[:, None]
    value = pkt_loss(student, teacher)
    torch.testing.assert_close(pkt_loss(lengths * student @ rotation, teacher), value)
    assert (pkt_loss(student + 2, teacher) - value).abs() > 1e-3


@pytest.mark.parametrize("batch", [1, 2])
def test_fewer_than_three_samples_have_no_choice_of_neighbors(batch):
    student = points(0, batch=batch).requires_grad_()
    value = pkt_loss(student, points(1, batch=batch))
    value.backward()
    assert value.abs() < 1e-12 and student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opposite_identical_and_zero_samples_stay_finite(dtype):
    student = points(0).to(dtype)
    student[1], student[2], student[3] = -student[0], student[0], 0
    student.requires_grad_()
    for first, second in ((student, points(1).to(dtype)), (student, student.detach().flip(0))):
        value = pkt_loss(first, second)
        value.backward()
        assert value.isfinite() and value >= 0 and student.grad.isfinite().all()
    line = torch.tensor([[1.0, -1.0, -2.0, -3.0, -1.0]], dtype=dtype).T * torch.ones(
        2
    )  # the first is opposite to all
    assert pkt_loss(line, points(1).to(dtype)).isfinite()
    assert pkt_loss(points(1).to(dtype), line).isfinite()
