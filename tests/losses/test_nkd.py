"""NKD against the paper's sum, written in loops over samples and classes."""

import math

import pytest
import torch

from lkd.losses import NKD, nkd_loss

B, C = 5, 6
LABELS = torch.tensor([0, 5, 2, 2, 1])


def logits(seed, dtype=torch.float64):
    return torch.randn(B, C, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def softmax(row):
    exponentials = [math.exp(z) for z in row]
    return [e / sum(exponentials) for e in exponentials]


def parts(student, teacher, labels, temperature):
    """The target part and the part over the other classes, summed over these, of every sample."""
    rows = []
    for s, t, y in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        target = -softmax(t)[y] * math.log(softmax(s)[y])
        p, q = softmax([z / temperature for z in s]), softmax([z / temperature for z in t])
        others = 0.0
        for i in range(len(s)):
            if i != y:
                others -= q[i] / (1 - q[y]) * math.log(p[i] / (1 - p[y]))
        rows.append((target, others))
    return rows


def reference(student, teacher, labels, temperature, gamma):
    rows = parts(student, teacher, labels, temperature)
    return sum(target + gamma * temperature**2 * others for target, others in rows) / len(rows)


@pytest.mark.parametrize(("temperature", "gamma"), [(1.0, 1.5), (4.0, 1.5), (0.5, 0.0), (2.0, 3.0)])
def test_is_the_papers_sum(temperature, gamma):
    value = nkd_loss(logits(0), logits(1), LABELS, temperature, gamma)
    assert value.item() == pytest.approx(
        reference(logits(0), logits(1), LABELS, temperature, gamma), rel=1e-10
    )


def test_defaults_are_the_papers():
    term = NKD()
    assert (term.temperature, term.gamma, term.needs_labels) == (1.0, 1.5, True)
    value = term(logits(0), logits(1), LABELS).item()
    assert value == pytest.approx(reference(logits(0), logits(1), LABELS, 1.0, 1.5), rel=1e-10)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradcheck(temperature):
    student = logits(0).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: nkd_loss(s, logits(1), LABELS, temperature), student)


def test_equal_logits_minimize_the_part_over_the_others_alone():
    student = logits(0).requires_grad_()
    # the gradient of the whole is then that of the target part: -p_T[y] (onehot - p_S)
    (grad,) = torch.autograd.grad(nkd_loss(student, logits(0), LABELS, 2.0), student)
    p = student.detach().softmax(1)
    onehot = torch.nn.functional.one_hot(LABELS, C)
    torch.testing.assert_close(grad, -p.gather(1, LABELS[:, None]) * (onehot - p) / B)


def test_with_two_classes_only_the_target_part_is_left():
    student, teacher, labels = logits(0)[:, :2], logits(1)[:, :2], LABELS % 2
    value = nkd_loss(student, teacher, labels, 3.0, 100.0)
    assert value.item() == pytest.approx(reference(student, teacher, labels, 3.0, 0.0), rel=1e-10)


def test_survives_a_teacher_that_is_certain():
    teacher = torch.zeros(B, C)
    teacher[torch.arange(B), LABELS] = 500.0
    student = logits(0, torch.float32).requires_grad_()
    value = nkd_loss(student, teacher, LABELS)
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all()


def test_teacher_gets_no_gradient_and_half_precision_is_raised():
    student, teacher = logits(0, torch.float16).requires_grad_(), logits(1, torch.float16).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = nkd_loss(student, teacher, LABELS)
    torch.testing.assert_close(
        value.double(), nkd_loss(student.double(), teacher.double(), LABELS), rtol=2e-5, atol=0
    )
    value.backward()
    assert value.dtype == torch.float32 and teacher.grad is None and student.grad.any()


def test_term_averages_layers_and_leaves_the_weight_to_others():
    term = NKD(2.0, 3.0, weight=7.0, student_layer="a", teacher_layer="b")
    student, teacher = [logits(0), logits(1)], [logits(2), logits(3)]
    each = [nkd_loss(s, t, LABELS, 2.0, 3.0) for s, t in zip(student, teacher, strict=True)]
    torch.testing.assert_close(term(student, teacher, LABELS), (each[0] + each[1]) / 2)
    assert (term.weight, term.student_layer, term.teacher_layer) == (7.0, "a", "b")


def test_bad_input():
    with pytest.raises(ValueError, match="NKD needs labels, got none"):
        NKD()(logits(0), logits(1))
    with pytest.raises(ValueError, match=r"integers of shape \(5,\), got torch.int64 \(4,\)"):
        nkd_loss(logits(0), logits(1), LABELS[:4])
    with pytest.raises(ValueError, match="softmax over 1 class is always 1"):
        nkd_loss(logits(0)[:, :1], logits(1)[:, :1], LABELS * 0)
    with pytest.raises(ValueError, match=r"temperature=0.0 must be above 0"):
        NKD(0.0)
