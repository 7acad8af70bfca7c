"""Relational losses against loops in numpy, their invariances and degenerate batches."""

import numpy as np
import pytest
import torch

from lkd.losses import RKD, SimilarityPreserving, rkd_angle_loss, rkd_distance_loss, sp_loss

LOSSES = pytest.mark.parametrize("loss", [rkd_distance_loss, rkd_angle_loss, sp_loss])
B = 5


def points(seed, width=4):
    return torch.randn(B, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(seed, width=4):
    return torch.linalg.qr(
        torch.randn(width, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ).Q


def smooth_l1(difference):
    return 0.5 * difference**2 if abs(difference) < 1 else abs(difference) - 0.5


def distance_reference(student, teacher):
    tables = []
    for x in (student.numpy(), teacher.numpy()):
        table = np.array([[np.sqrt(np.sum((a - b) ** 2)) for b in x] for a in x])
        tables.append(table / np.mean([table[i, j] for i in range(B) for j in range(B) if i != j]))
    return np.mean([smooth_l1(a - b) for a, b in zip(tables[0].ravel(), tables[1].ravel(), strict=True)])


def angle_reference(student, teacher):
    def cosine(x, i, j, k):
        if j in (i, k):
            return 0.0
        a, b = x[i] - x[j], x[k] - x[j]
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    total, (s, t) = 0.0, (student.numpy(), teacher.numpy())
    for i in range(B):
        for j in range(B):
            for k in range(B):
                total += smooth_l1(cosine(s, i, j, k) - cosine(t, i, j, k))
    return total / B**3


def sp_reference(student, teacher):
    grams = []
    for x in (student.numpy(), teacher.numpy()):
        gram = np.array([[a @ b for b in x] for a in x])
        grams.append(np.array([row / np.sqrt(np.sum(row**2)) for row in gram]))
    return np.sum((grams[0] - grams[1]) ** 2) / B**2


@pytest.mark.parametrize("stretch", [1.0, 40.0])  # an outlier reaches the linear part of smooth L1
@pytest.mark.parametrize(
    ("loss", "reference"),
    [(rkd_distance_loss, distance_reference), (rkd_angle_loss, angle_reference), (sp_loss, sp_reference)],
)
def test_in_loops_with_other_widths(loss, reference, stretch):
    student, teacher = points(0), points(1, 7)
    student[0] *= stretch
    assert loss(student, teacher).item() == pytest.approx(reference(student, teacher), rel=1e-10)


@LOSSES
def test_maps_are_flattened(loss):
    student, teacher = points(0, 12), points(1, 6)
    torch.testing.assert_close(
        loss(student.reshape(B, 3, 2, 2), teacher.reshape(B, 2, 3)), loss(student, teacher)
    )


@pytest.mark.parametrize("loss", [rkd_distance_loss, rkd_angle_loss])
def test_rkd_ignores_rotation_shift_and_uniform_scale(loss):
    student, teacher = points(0), points(1)
    moved = 3.7 * student @ rotation(2) + torch.tensor([5.0, -3.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(loss(moved, teacher), loss(student, teacher))
    torch.testing.assert_close(loss(moved, student), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-20)
    bent = student * torch.tensor([1.0, 1.0, 1.0, 4.0], dtype=torch.float64)
    assert loss(bent, student) > 1e-3


def test_sp_ignores_orthogonal_maps_and_scale_but_not_shifts():
    student, teacher = points(0), points(1)
    torch.testing.assert_close(sp_loss(2.5 * student @ rotation(2), teacher), sp_loss(student, teacher))
    assert (sp_loss(student + 2, teacher) - sp_loss(student, teacher)).abs() > 1e-3


def gradient(loss, student, teacher):
    student = student.clone().requires_grad_()
    value = loss(student, teacher)
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all()
    return value.item(), student.grad


@LOSSES
def test_a_batch_of_one_has_no_relations(loss):
    value, grad = gradient(loss, points(0)[:1].float(), points(1)[:1].float())
    assert value < 1e-12 and grad.abs().max() < 1e-6
    value, grad = gradient(loss, torch.zeros(1, 4), points(1)[:1].float())
    assert np.isfinite(value) and not grad.any()


@LOSSES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_and_zero_samples_keep_moderate_gradients(loss, dtype):
    teacher = points(1).to(dtype)
    twins = points(0).to(dtype)
    twins[1] = twins[0]
    twins[2] = 0
    assert gradient(loss, twins, teacher)[1].abs().max() < 10  # not 1/eps
    for constant in (0.0, 1.5):
        assert gradient(loss, torch.full((B, 4), constant, dtype=dtype), teacher)[1].abs().max() < 10
    gradient(loss, points(0).to(dtype), torch.zeros_like(teacher))
    gradient(loss, torch.zeros_like(teacher), torch.zeros_like(teacher))


def test_small_distances_survive_a_large_offset_in_float32():
    student = points(0) + 1000
    value = rkd_distance_loss(student.float(), points(1).float()).item()
    assert value == pytest.approx(rkd_distance_loss(student, points(1)).item(), rel=1e-3)


def test_rkd_weighs_both_losses():
    student, teacher = points(0), points(1)
    expected = 25 * rkd_distance_loss(student, teacher) + 50 * rkd_angle_loss(student, teacher)
    torch.testing.assert_close(RKD()(student, teacher), expected)
    torch.testing.assert_close(
        RKD(distance_weight=2.0, angle_weight=3.0)(student, teacher),
        2 * rkd_distance_loss(student, teacher) + 3 * rkd_angle_loss(student, teacher),
    )
    assert RKD().adapter(student, points(1, 7)) is None
    assert SimilarityPreserving().adapter(student, points(1, 7)) is None
