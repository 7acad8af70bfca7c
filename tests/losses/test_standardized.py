"""Logit standardization against scipy's z-score, around every kind of response term."""

import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy, zscore

from lkd.losses import (
    DIST,
    DKD,
    KD,
    NKD,
    Dissimilarity,
    FitNets,
    LogitMatching,
    MultiTeacher,
    Standardized,
    standardize,
)

B, C = 5, 7
LABELS = torch.tensor([0, 6, 3, 3, 1])
INNER = [KD(2.0), DKD(), DIST(), NKD(), LogitMatching(), Dissimilarity("sed")]
EACH = pytest.mark.parametrize("inner", INNER, ids=lambda term: type(term).__name__)


def logits(seed, shape=(B, C), dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_is_the_unbiased_z_score():
    z = logits(0, (B, 3, C))
    torch.testing.assert_close(
        standardize(z), torch.tensor(zscore(z.numpy(), axis=-1, ddof=1)), rtol=1e-6, atol=1e-6
    )


def test_kd_of_z_scores_in_numpy():
    p, q = (softmax(zscore(logits(seed).numpy(), axis=1, ddof=1) / 2, axis=1) for seed in (0, 1))
    expected = 4 * entropy(q, p, axis=1).mean()
    value = Standardized(KD(2.0))(logits(0), logits(1))
    assert value.item() == pytest.approx(expected, rel=1e-6)
    biased = [softmax(zscore(logits(seed).numpy(), axis=1, ddof=0) / 2, axis=1) for seed in (0, 1)]
    assert value.item() != pytest.approx(4 * entropy(biased[1], biased[0], axis=1).mean(), rel=1e-2)


@EACH
def test_scale_and_shift_of_either_side_do_not_matter(inner):
    term = Standardized(inner)
    value = term(logits(0), logits(1), LABELS)
    torch.testing.assert_close(term(3 * logits(0) - 1, logits(1), LABELS), value, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(term(logits(0), 9 * logits(1) + 5, LABELS), value, rtol=1e-5, atol=1e-7)
    plain = inner(logits(0), 9 * logits(1) + 5, labels=LABELS)
    assert not torch.isclose(plain, value, rtol=1e-3)


@EACH
def test_gradcheck_and_a_teacher_without_gradient(inner):
    student, teacher = logits(0).requires_grad_(), logits(1).requires_grad_()
    term = Standardized(inner)
    assert torch.autograd.gradcheck(lambda s: term(s, logits(1), LABELS), student)
    term(student, teacher, LABELS).backward()
    assert student.grad.any() and teacher.grad is None


def test_a_scaled_teacher_is_learned_without_loss():
    student = logits(0).requires_grad_()
    value = Standardized(KD(2.0))(student, 5 * logits(0) + 3)
    value.backward()
    assert value < 1e-10 and student.grad.abs().max() < 1e-6


def test_equal_logits_of_all_classes_give_finite_gradients():
    student = torch.zeros(B, C, requires_grad=True)  # a head that starts at zero
    value = Standardized(KD(2.0))(student, logits(1, dtype=torch.float32))
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all()
    assert Standardized(KD())(logits(0), torch.zeros(B, C)).isfinite()


def test_half_precision_is_raised_before_the_deviation_is_taken():
    student, teacher = logits(0, dtype=torch.float16), logits(1, dtype=torch.float16)
    with torch.autocast("cpu", torch.bfloat16):
        value = Standardized(KD())(student, teacher)
    exact = Standardized(KD())(student.double(), teacher.double())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=2e-5, atol=0)


def test_takes_over_weight_layers_and_labels():
    outer = Standardized(DKD(weight=9.0, student_layer="a", teacher_layer=["b"]))
    assert (outer.weight, outer.student_layer, outer.teacher_layer) == (9.0, "a", ["b"])
    assert outer.needs_labels and not Standardized(KD()).needs_labels
    assert Standardized(DIST()).relates_samples and not outer.relates_samples


def test_layers_are_averaged():
    term = Standardized(KD())
    each = [term(logits(0), logits(2)), term(logits(1), logits(3))]
    both = term([logits(0), logits(1)], [logits(2), logits(3)])
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)


def test_standardizes_each_of_several_teachers_by_itself():
    scales = torch.tensor([1.0, 50.0, 0.1], dtype=torch.float64)[:, None]
    teachers = logits(1, (B, 3, C))
    term = Standardized(MultiTeacher(KD(2.0)))
    value = term(logits(0), teachers * scales)
    torch.testing.assert_close(value, term(logits(0), teachers), rtol=1e-5, atol=0)
    by_hand = MultiTeacher(KD(2.0))(standardize(logits(0)), standardize(teachers))
    torch.testing.assert_close(term(logits(0), teachers), by_hand)


def test_bad_input():
    with pytest.raises(TypeError, match=r"term=.*KD.* of Standardized must be a lkd.losses.Term, such as KD"):
        Standardized(KD)
    with pytest.raises(ValueError, match="softmax over 1 class is always 1"):
        Standardized(KD())(logits(0)[:, :1], logits(1)[:, :1])
    with pytest.raises(ValueError, match="student has 7 classes, teacher 3"):
        Standardized(KD())(logits(0), logits(1)[:, :3])
    with pytest.raises(ValueError, match="Standardized goes around a loss on class scores, not FitNets"):
        Standardized(FitNets())
