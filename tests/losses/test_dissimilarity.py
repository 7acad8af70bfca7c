"""Dissimilarities against scipy and the formulas of the papers over probabilities."""

import copy
import math
import pickle
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from scipy.stats import entropy

from lkd import losses
from lkd.losses import Dissimilarity, dissimilarity_loss, kd_loss, multivariate_sed
from lkd.losses.dissimilarity import Measure

B, C, K = 5, 7, 3
NAMES = get_args(Measure)
LN2 = math.log(2)


def logits(seed, shape=(B, C), dtype=torch.float64):
    made = 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return made.to(dtype)


def complexity(p):
    return np.exp(entropy(p))


def msed(distributions):
    n = len(distributions)
    geometric = np.prod([complexity(p) ** (1 / n) for p in distributions])
    return (complexity(np.mean(distributions, axis=0)) / geometric - 1) / (n - 1)


REFERENCE = {
    "ce": lambda p, q: -sum(b * math.log(a) for a, b in zip(p, q, strict=True)),
    "kl": lambda p, q: entropy(q, p),
    "js": lambda p, q: jensenshannon(p, q) ** 2,
    "triangular": lambda p, q: 1 - sum(2 * a * b / (a + b) for a, b in zip(p, q, strict=True)),
    "sed": lambda p, q: complexity((p + q) / 2) / math.sqrt(complexity(p) * complexity(q)) - 1,
    "msed": lambda p, q: msed([p, q]),
}
FUNCTIONS = {
    "ce": losses.soft_cross_entropy,
    "kl": losses.kl_divergence,
    "js": losses.js_divergence,
    "triangular": losses.triangular_discrimination,
    "sed": losses.structural_entropic_distance,
    "msed": lambda p, q: multivariate_sed(p, q[..., None, :]),
}
ALL = pytest.mark.parametrize("measure", NAMES)
ZERO_AT_EQUAL = pytest.mark.parametrize("measure", [name for name in NAMES if name != "ce"])
BOUNDED = pytest.mark.parametrize(
    ("measure", "bound"), [("js", LN2), ("triangular", 1.0), ("sed", 1.0), ("msed", 1.0)]
)


@ALL
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_is_the_formula_of_the_papers(measure, temperature):
    p, q = (softmax(logits(seed).numpy() / temperature, axis=1) for seed in (0, 1))
    each = [REFERENCE[measure](a, b) for a, b in zip(p, q, strict=True)]
    value = dissimilarity_loss(logits(0), logits(1), measure, temperature)
    assert value.item() == pytest.approx(temperature**2 * np.mean(each), rel=1e-9)


@ALL
def test_functions_keep_all_dimensions_but_the_classes(measure):
    p, q = (logits(seed, (2, 3, C)).log_softmax(-1) for seed in (0, 1))
    value = FUNCTIONS[measure](p, q)
    assert value.shape == (2, 3)
    expected = REFERENCE[measure](p[1, 2].exp().numpy(), q[1, 2].exp().numpy())
    assert value[1, 2].item() == pytest.approx(expected, rel=1e-9)


def test_sed_is_exp_of_js_minus_one():
    p, q = (softmax(logits(seed, (1000, C)).numpy(), axis=1) for seed in (0, 1))
    by_complexity = [REFERENCE["sed"](a, b) for a, b in zip(p, q, strict=True)]
    js = losses.js_divergence(torch.tensor(p).log(), torch.tensor(q).log())
    torch.testing.assert_close(torch.tensor(by_complexity), js.exp() - 1, rtol=1e-11, atol=1e-13)


def test_msed_of_two_is_sed():
    student, teacher = logits(0), logits(1)
    sed = dissimilarity_loss(student, teacher, "sed")
    torch.testing.assert_close(dissimilarity_loss(student, teacher, "msed"), sed)
    torch.testing.assert_close(dissimilarity_loss(student, teacher[:, None], "msed"), sed)


def test_msed_of_several_teachers_is_the_formula_and_does_not_depend_on_their_order():
    student, teachers = logits(0), logits(1, (B, K, C))
    p, q = softmax(student.numpy() / 2, axis=1), softmax(teachers.numpy() / 2, axis=-1)
    expected = 4 * np.mean([msed([p[i], *q[i]]) for i in range(B)])
    value = dissimilarity_loss(student, teachers, "msed", 2.0)
    assert value.item() == pytest.approx(expected, rel=1e-10)
    torch.testing.assert_close(dissimilarity_loss(student, teachers.flip(1), "msed", 2.0), value)


def test_kl_is_kd_and_ce_has_its_gradient():
    student = logits(0).requires_grad_()
    grads = []
    for loss in (
        kd_loss(student, logits(1), 3.0),
        dissimilarity_loss(student, logits(1), "kl", 3.0),
        dissimilarity_loss(student, logits(1), "ce", 3.0),
    ):
        grads.append(torch.autograd.grad(loss, student)[0])
    torch.testing.assert_close(
        dissimilarity_loss(student, logits(1), "kl", 3.0), kd_loss(student, logits(1), 3.0)
    )
    torch.testing.assert_close(grads[1], grads[0])
    torch.testing.assert_close(grads[2], grads[0])


@ALL
def test_gradcheck(measure):
    student = logits(0).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: dissimilarity_loss(s, logits(1), measure, 2.0), student)


def test_gradcheck_of_several_teachers():
    student = logits(0).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: dissimilarity_loss(s, logits(1, (B, K, C)), "msed", 2.0), student
    )


@ZERO_AT_EQUAL
def test_equal_logits_give_no_loss_and_no_gradient(measure):
    student = logits(0).requires_grad_()
    value = dissimilarity_loss(student, logits(0), measure)
    value.backward()
    assert value.abs() < 1e-13 and student.grad.abs().max() < 1e-13


def test_equal_logits_leave_the_entropy_of_the_cross_entropy():
    student = logits(0).requires_grad_()
    value = dissimilarity_loss(student, logits(0), "ce", 1.0)
    value.backward()
    assert value.item() == pytest.approx(entropy(softmax(logits(0).numpy(), axis=1), axis=1).mean())
    assert student.grad.abs().max() < 1e-15


@ALL
def test_squared_temperature_keeps_the_scale_of_the_gradient(measure):
    norms = []
    for temperature in (20.0, 200.0):
        student = logits(0).requires_grad_()
        dissimilarity_loss(student, logits(1), measure, temperature).backward()
        norms.append(student.grad.norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=0.1)  # without T² they differ by a factor of 100


@ALL
def test_twice_the_batch_is_the_same_loss(measure):
    twice = dissimilarity_loss(logits(0).repeat(2, 1), logits(1).repeat(2, 1), measure)
    torch.testing.assert_close(twice, dissimilarity_loss(logits(0), logits(1), measure))


@BOUNDED
def test_bound_is_reached_by_distributions_that_share_no_class(measure, bound):
    p, q = torch.tensor([1.0, 0.0, 0.0]).log(), torch.tensor([0.0, 0.5, 0.5]).log()  # zeros are exact
    assert FUNCTIONS[measure](p, q).item() == pytest.approx(bound, rel=1e-6)
    assert FUNCTIONS[measure](q, p).item() == pytest.approx(bound, rel=1e-6)


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("certain", ["student", "teacher", "both", "both, of other classes"])
def test_probabilities_of_zero_give_finite_values_and_gradients(measure, dtype, certain):
    one, other = (
        torch.nn.functional.one_hot(torch.tensor([i, i]), 3).to(dtype) * 1e4 for i in (0, 1)
    )  # exponentials underflow to zero
    soft = torch.tensor([[1.0, 2.0, 3.0]] * 2, dtype=dtype)
    student, teacher = {
        "student": (one, soft),
        "teacher": (soft, one),
        "both": (one, one),
        "both, of other classes": (one, other),
    }[certain]
    student = student.clone().requires_grad_()
    value = dissimilarity_loss(student, teacher, measure, 1.0)
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all()


@ALL
def test_a_class_that_both_exclude_changes_nothing(measure):
    excluded = torch.full((B, 1), -math.inf, dtype=torch.float64)
    student = logits(0).requires_grad_()
    value = dissimilarity_loss(
        torch.cat([student, excluded], 1), torch.cat([logits(1), excluded], 1), measure
    )
    torch.testing.assert_close(value, dissimilarity_loss(logits(0), logits(1), measure))
    value.backward()
    alone = logits(0).requires_grad_()
    dissimilarity_loss(alone, logits(1), measure).backward()
    torch.testing.assert_close(student.grad, alone.grad)


@ALL
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_the_teachers_graph(measure, dtype):
    student, teacher = logits(0, dtype=dtype).requires_grad_(), logits(1, dtype=dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = dissimilarity_loss(student, teacher, measure)
    exact = dissimilarity_loss(student.double(), teacher.double(), measure)
    torch.testing.assert_close(value.double(), exact, rtol=5e-5, atol=1e-9)
    value.backward()
    assert value.dtype == torch.float32 and teacher.grad is None and student.grad.any()


@ALL
def test_term(measure):
    term = Dissimilarity(measure, 2.0, weight=3.0, student_layer="a", teacher_layer=["b"])
    student, teacher = [logits(0), logits(1)], [logits(2), logits(3)]
    each = [dissimilarity_loss(s, t, measure, 2.0) for s, t in zip(student, teacher, strict=True)]
    for twin in (term, copy.deepcopy(term), pickle.loads(pickle.dumps(term))):
        torch.testing.assert_close(twin(student, teacher), (each[0] + each[1]) / 2)
        assert (twin.weight, twin.student_layer, twin.teacher_layer, twin.needs_labels) == (
            3.0, "a", ["b"], False,
        )  # fmt: skip
        assert not twin.state_dict()


def test_bad_input():
    with pytest.raises(ValueError, match=r"measure='jsd' must be 'ce', 'kl', 'js', 'triangular'"):
        Dissimilarity("jsd")
    with pytest.raises(ValueError, match="measure='jsd' must be 'ce'"):
        dissimilarity_loss(logits(0), logits(1), "jsd")
    with pytest.raises(ValueError, match=r"temperature=0.0 must be above 0"):
        Dissimilarity("js", 0.0)
    for measure in ("js", "msed"):
        with pytest.raises(ValueError, match="student has 7 classes, teacher 3"):
            dissimilarity_loss(logits(0), logits(1)[:, :3], measure)
    with pytest.raises(ValueError, match=r"several teachers' \(B, K, C\), wrap the term in MultiTeacher"):
        dissimilarity_loss(logits(0), logits(1, (B, K, C)), "js")
