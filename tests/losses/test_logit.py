"""Logit losses against loops in numpy, their published gradients and their invariances."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lkd.losses import DKD, KD, dkd_loss, kd_loss, logit_matching_loss

B, C = 5, 7
LABELS = torch.tensor([0, 6, 3, 3, 1])


def logits(seed, scale=2.0):
    return scale * torch.randn(B, C, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def probabilities(row, temperature):
    exponentials = [math.exp(z / temperature) for z in row]
    return [e / sum(exponentials) for e in exponentials]


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def kd_reference(student, teacher, temperature):
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        total += divergence(probabilities(t, temperature), probabilities(s, temperature))
    return temperature**2 * total / len(student)


def dkd_parts(student, teacher, labels, temperature):
    """TCKD, NCKD and the teacher's p_y, sample by sample."""
    rows = []
    for s, t, y in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        ps, pt = probabilities(s, temperature), probabilities(t, temperature)
        target = divergence([pt[y], 1 - pt[y]], [ps[y], 1 - ps[y]])
        others = divergence(
            [p / (1 - pt[y]) for i, p in enumerate(pt) if i != y],
            [p / (1 - ps[y]) for i, p in enumerate(ps) if i != y],
        )
        rows.append((target, others, pt[y]))
    return np.array(rows).T


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_kd_is_the_kl_in_loops(temperature):
    value = kd_loss(logits(0), logits(1), temperature)
    assert value.item() == pytest.approx(kd_reference(logits(0), logits(1), temperature), rel=1e-10)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradient_of_the_soft_cross_entropy(temperature):
    student, teacher = logits(0).requires_grad_(), logits(1)
    kd_loss(student, teacher, temperature).backward()
    p_s, p_t = (F.softmax(z.detach() / temperature, 1) for z in (student, teacher))
    torch.testing.assert_close(student.grad * B / temperature**2, (p_s - p_t) / temperature)


def test_gradient_at_high_temperature_matches_logits():
    temperature = 1e4
    student, teacher = (z - z.mean(1, keepdim=True) for z in (logits(0), logits(1)))
    student.requires_grad_()
    kd_loss(student, teacher, temperature).backward()
    expected = (student - teacher).detach() / (C * temperature**2)
    torch.testing.assert_close(student.grad * B / temperature**2, expected, rtol=5e-3, atol=1e-12)


def test_logit_matching_is_the_limit_of_kd_for_centered_logits():
    student, teacher = (z - z.mean(1, keepdim=True) for z in (logits(0), logits(1)))
    value = logit_matching_loss(student, teacher).item()
    gaps = [abs(kd_loss(student, teacher, t).item() - value) for t in (10.0, 100.0, 1000.0)]
    assert gaps[0] > 8 * gaps[1] > 64 * gaps[2]  # falls as 1/T
    assert gaps[2] < 1e-2 * value
    loops = sum(
        (s - t) ** 2 for s, t in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    )
    assert value == pytest.approx(loops / (2 * C * B), rel=1e-12)


def test_logit_matching_exceeds_the_limit_by_half_the_squared_mean_difference():
    student, teacher = logits(0), logits(1)
    limit = kd_loss(student, teacher, 1e4)
    offset = (student - teacher).mean(1).square().mean() / 2
    torch.testing.assert_close(logit_matching_loss(student, teacher), limit + offset, rtol=1e-3, atol=0)


def test_squared_temperature_keeps_the_scale_of_the_gradient():
    norms = []
    for temperature in (20.0, 200.0):
        student = logits(0).requires_grad_()
        kd_loss(student, logits(1), temperature).backward()
        norms.append(student.grad.norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=0.1)  # without T² they differ by a factor of 100


def test_shifting_all_logits_of_a_sample_changes_nothing():
    shift = torch.randn(B, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    student, teacher = logits(0), logits(1)
    torch.testing.assert_close(kd_loss(student + 3 * shift, teacher - shift), kd_loss(student, teacher))
    torch.testing.assert_close(
        dkd_loss(student + 3 * shift, teacher - shift, LABELS), dkd_loss(student, teacher, LABELS)
    )


@pytest.mark.parametrize(
    ("alpha", "beta", "temperature"), [(1.0, 8.0, 4.0), (0.5, 2.0, 1.0), (0.0, 1.0, 2.0)]
)
def test_dkd_is_its_two_parts_in_loops(alpha, beta, temperature):
    target, others, _ = dkd_parts(logits(0), logits(1), LABELS, temperature)
    value = dkd_loss(logits(0), logits(1), LABELS, temperature, alpha, beta)
    assert value.item() == pytest.approx(temperature**2 * (alpha * target + beta * others).mean(), rel=1e-10)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_tckd_plus_the_rest_of_nckd(temperature):
    student, teacher = logits(0), logits(1)
    p_y = F.softmax(teacher / temperature, 1).gather(1, LABELS[:, None])[:, 0]
    total = 0.0
    for i in range(B):  # beta = 1 - p_y differs by sample
        sample = slice(i, i + 1)
        beta = 1 - p_y[i].item()
        total += dkd_loss(student[sample], teacher[sample], LABELS[sample], temperature, 1.0, beta).item() / B
    assert total == pytest.approx(kd_loss(student, teacher, temperature).item(), rel=1e-10)


def test_dkd_survives_a_teacher_that_is_certain():
    teacher = torch.zeros(B, C)
    teacher[torch.arange(B), LABELS] = 500.0
    student = logits(0).float().requires_grad_()
    value = dkd_loss(student, teacher, LABELS, temperature=1.0)
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all()


def test_two_classes_have_nothing_beyond_the_pair():
    student, teacher, labels = logits(0)[:, :2], logits(1)[:, :2], torch.tensor([0, 1, 1, 0, 1])
    torch.testing.assert_close(dkd_loss(student, teacher, labels), kd_loss(student, teacher))


def test_a_batch_of_one():
    assert kd_loss(logits(0)[:1], logits(1)[:1]).item() == pytest.approx(
        kd_reference(logits(0)[:1], logits(1)[:1], 4.0), rel=1e-10
    )


def test_terms_pass_their_settings_on():
    student, teacher = logits(0), logits(1)
    torch.testing.assert_close(KD(2.0)(student, teacher), kd_loss(student, teacher, 2.0))
    term = DKD(temperature=2.0, alpha=0.3, beta=5.0)
    expected = dkd_loss(student, teacher, LABELS, 2.0, 0.3, 5.0)
    torch.testing.assert_close(term(student, teacher, LABELS), expected)
    torch.testing.assert_close(term([student], [teacher], LABELS), expected)
    assert DKD.needs_labels and not KD.needs_labels


@pytest.mark.parametrize("loss", [kd_loss, logit_matching_loss, lambda s, t: dkd_loss(s, t, LABELS)])
def test_class_counts_must_agree(loss):
    with pytest.raises(ValueError, match=r"student has 7 classes, teacher 3: .*same classes"):
        loss(logits(0), logits(1)[:, :3])
    with pytest.raises(ValueError, match=r"must have the shape \(B, C\)"):
        loss(logits(0)[..., None], logits(1)[..., None])


def test_other_bad_input():
    with pytest.raises(ValueError, match=r"temperature=0.0 must be above 0"):
        kd_loss(logits(0), logits(1), 0.0)
    with pytest.raises(ValueError, match=r"temperature=-1.0 must be above 0"):
        KD(-1.0)
    with pytest.raises(ValueError, match="softmax over 1 class is always 1"):
        dkd_loss(logits(0)[:, :1], logits(1)[:, :1], LABELS * 0)
    with pytest.raises(ValueError, match=r"integers of shape \(5,\), got torch.int64 \(4,\)"):
        dkd_loss(logits(0), logits(1), LABELS[:4])
    with pytest.raises(ValueError, match=r"integers of shape \(5,\), got torch.float32"):
        dkd_loss(logits(0), logits(1), LABELS.float())
    with pytest.raises(ValueError, match="DKD needs labels, got none"):
        DKD()(logits(0), logits(1))
