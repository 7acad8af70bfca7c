"""Several teachers against loops over teachers and samples."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import softmax
from scipy.stats import entropy

from lkd.losses import (
    DIST,
    DKD,
    KD,
    NKD,
    Dissimilarity,
    LogitMatching,
    MultiTeacher,
    Standardized,
    confidence_weights,
    entropy_weights,
    kd_loss,
    mean_probabilities,
)

B, K, C = 5, 3, 7
LABELS = torch.tensor([0, 6, 3, 3, 1])
INNER = [KD(2.0), DKD(2.0), NKD(), Dissimilarity("sed", 2.0), Standardized(KD(2.0))]
EACH = pytest.mark.parametrize("inner", INNER, ids=lambda term: type(term).__name__)
WEIGHTINGS = pytest.mark.parametrize("weighting", ["uniform", [0.5, 0.2, 0.3], "entropy", "confidence"])
COMBINATIONS = pytest.mark.parametrize("combine", ["probabilities", "logits", "losses"])


def logits(seed, shape=(B, C), dtype=torch.float64):
    made = 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return made.to(dtype)


def teachers(seed=1, dtype=torch.float64):
    return logits(seed, (B, K, C), dtype)


def confidence(rows, labels):
    """The paper's weights in loops: 1 / (K - 1) (1 - exp(CE_k) / sum_j exp(CE_j))."""
    weights = []
    for sample, y in zip(rows.numpy(), labels.tolist(), strict=True):
        cross = [-math.log(softmax(z)[y]) for z in sample]
        total = sum(math.exp(c) for c in cross)
        weights.append([(1 - math.exp(c) / total) / (len(cross) - 1) for c in cross])
    return torch.tensor(weights, dtype=torch.float64)


def by_entropy(rows):
    weights = []
    for sample in rows.numpy():
        h = [entropy(softmax(z)) for z in sample]
        weights.append([(1 - e / sum(h)) / (len(h) - 1) for e in h])
    return torch.tensor(weights, dtype=torch.float64)


def table(weighting, rows):
    """The weights `(B, K)` by other means."""
    match weighting:
        case "uniform":
            return torch.full((B, K), 1 / K, dtype=torch.float64)
        case "entropy":
            return by_entropy(rows)
        case "confidence":
            return confidence(rows, LABELS)
        case _:
            return torch.tensor(weighting, dtype=torch.float64).expand(B, K)


def test_confidence_weights_are_the_papers():
    weights = confidence_weights(teachers(), LABELS)
    torch.testing.assert_close(weights, confidence(teachers(), LABELS).to(weights))
    torch.testing.assert_close(weights.sum(1), torch.ones(B, dtype=torch.float64))
    closest = F.log_softmax(teachers(), -1).gather(2, LABELS[:, None, None].expand(B, K, 1)).squeeze(2)
    assert torch.equal(weights.argmax(1), closest.argmax(1))


def test_entropy_weights_favor_the_sure_teacher():
    weights = entropy_weights(teachers())
    torch.testing.assert_close(weights, by_entropy(teachers()).to(weights))
    torch.testing.assert_close(weights.sum(1), torch.ones(B, dtype=torch.float64))
    assert torch.equal(weights.argmax(1), torch.tensor(entropy(softmax(teachers(), -1), axis=-1)).argmin(1))


def test_weights_at_the_edges():
    certain = 1e4 * F.one_hot(torch.tensor([[0, 1, 2]] * B), C).float()
    torch.testing.assert_close(entropy_weights(certain), torch.full((B, K), 1 / K))
    assert torch.equal(
        confidence_weights(certain, torch.zeros(B, dtype=torch.long)).argmax(1), torch.zeros(B)
    )
    for weights in (entropy_weights(teachers()[:, :1]), confidence_weights(teachers()[:, :1], LABELS)):
        assert torch.equal(weights, torch.ones(B, 1, dtype=torch.float64))
    assert not entropy_weights(teachers().requires_grad_()).requires_grad


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_mean_probabilities_is_the_mean_of_softened_predictions(temperature):
    weights = table("entropy", teachers())
    mean = mean_probabilities(teachers(), weights, temperature)
    expected = np.einsum("bk,bkc->bc", weights.numpy(), softmax(teachers().numpy() / temperature, axis=-1))
    torch.testing.assert_close(torch.softmax(mean / temperature, 1), torch.tensor(expected))


@WEIGHTINGS
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_mean_of_probabilities_in_loops(weighting, temperature):
    p = softmax(logits(0).numpy() / temperature, axis=1)
    q = softmax(teachers().numpy() / temperature, axis=-1)
    weights, total = table(weighting, teachers()).numpy(), 0.0
    for i in range(B):
        total += entropy(sum(weights[i, k] * q[i, k] for k in range(K)), p[i])
    value = MultiTeacher(KD(temperature), weighting=weighting)(logits(0), teachers(), LABELS)
    assert value.item() == pytest.approx(temperature**2 * total / B, rel=1e-9)


@EACH
@WEIGHTINGS
def test_mean_of_logits_in_loops(inner, weighting):
    weights = table(weighting, teachers())
    mean = torch.stack([sum(weights[i, k] * teachers()[i, k] for k in range(K)) for i in range(B)])
    value = MultiTeacher(inner, "logits", weighting)(logits(0), teachers(), LABELS)
    torch.testing.assert_close(value, inner(logits(0), mean, LABELS))


@EACH
@WEIGHTINGS
def test_decoupled_losses_in_loops(inner, weighting):
    weights, total = table(weighting, teachers()), 0.0
    for i in range(B):
        for k in range(K):
            one = slice(i, i + 1)
            total += weights[i, k] * inner(logits(0)[one], teachers()[one, k], labels=LABELS[one])
    value = MultiTeacher(inner, "losses", weighting)(logits(0), teachers(), LABELS)
    torch.testing.assert_close(value, total / B)


def test_weights_of_one_each_are_the_pairwise_sum():
    value = MultiTeacher(KD(), "losses", [1.0, 1.0, 1.0])(logits(0), teachers())
    torch.testing.assert_close(value, sum(kd_loss(logits(0), teachers()[:, k]) for k in range(K)))


@pytest.mark.parametrize("measure", ["ce", "kl"])
@WEIGHTINGS
def test_of_cross_entropy_the_mean_and_the_sum_have_one_gradient(measure, weighting):
    grads = []
    for combine in ("probabilities", "losses"):
        student = logits(0).requires_grad_()
        term = MultiTeacher(Dissimilarity(measure, 2.0), combine, weighting)
        grads.append(torch.autograd.grad(term(student, teachers(), LABELS), student)[0])
    torch.testing.assert_close(grads[0], grads[1])


@EACH
@COMBINATIONS
@WEIGHTINGS
def test_equal_teachers_are_one(inner, combine, weighting):
    alike = logits(1)[:, None].expand(B, K, C)
    value = MultiTeacher(inner, combine, weighting)(logits(0), alike, LABELS)
    torch.testing.assert_close(value, inner(logits(0), logits(1), labels=LABELS))


@EACH
@COMBINATIONS
@pytest.mark.parametrize("weighting", ["uniform", "entropy", "confidence"])
def test_an_ensemble_of_one_is_its_teacher(inner, combine, weighting):
    value = MultiTeacher(inner, combine, weighting)(logits(0), logits(1)[:, None], LABELS)
    torch.testing.assert_close(value, inner(logits(0), logits(1), labels=LABELS))


@COMBINATIONS
@WEIGHTINGS
def test_gradcheck_and_teachers_without_gradient(combine, weighting):
    term = MultiTeacher(Dissimilarity("sed", 2.0), combine, weighting)
    student, theirs = logits(0).requires_grad_(), teachers().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: term(s, teachers(), LABELS), student)
    term(student, theirs, LABELS).backward()
    assert student.grad.any() and theirs.grad is None


@COMBINATIONS
def test_a_teacher_of_weight_zero_is_not_heard(combine):
    term = MultiTeacher(KD(), combine, [0.5, 0.0, 0.5])
    loud = teachers().clone()
    loud[:, 1] *= -1000
    torch.testing.assert_close(term(logits(0), loud), term(logits(0), teachers()))


def test_one_loud_teacher_rules_the_mean_of_logits_but_not_of_probabilities():
    good = 5.0 * F.one_hot(LABELS, C).double()
    theirs = torch.stack([good, good, -50 * good], 1)  # two teachers that are right and one that is scaled
    found = {}
    for combine in ("logits", "probabilities"):
        student = torch.zeros(B, C, dtype=torch.float64, requires_grad=True)
        MultiTeacher(KD(1.0), combine)(student, theirs).backward()
        found[combine] = (-student.grad).argmax(1)
    assert torch.equal(found["probabilities"], LABELS)
    assert not (found["logits"] == LABELS).any()


def test_samples_weigh_teachers_of_dist_only_through_their_mean():
    weights = table("entropy", teachers())
    mean = mean_probabilities(teachers(), weights, 2.0)
    value = MultiTeacher(DIST(2.0), weighting="entropy")(logits(0), teachers())
    torch.testing.assert_close(value, DIST(2.0)(logits(0), mean))
    for inner in (DIST(), Standardized(DIST())):
        with pytest.raises(ValueError, match=r"weighting='entropy': .* compares the samples of a batch"):
            MultiTeacher(inner, "losses", "entropy")
    fixed = MultiTeacher(DIST(), "losses")(logits(0), teachers())
    torch.testing.assert_close(fixed, sum(DIST()(logits(0), teachers()[:, k]) for k in range(K)) / K)


@COMBINATIONS
@WEIGHTINGS
def test_half_precision(combine, weighting):
    student, theirs = logits(0, dtype=torch.bfloat16).requires_grad_(), teachers(dtype=torch.bfloat16)
    term = MultiTeacher(KD(), combine, weighting)
    with torch.autocast("cpu", torch.bfloat16):
        value = term(student, theirs, LABELS)
    torch.testing.assert_close(
        value.double(), term(student.double(), theirs.double(), LABELS), rtol=5e-5, atol=0
    )
    value.backward()
    assert value.dtype == torch.float32 and student.grad.any()


def test_the_temperature_is_read_when_the_term_runs():
    term = MultiTeacher(KD(1.0))
    term.term.temperature = 3.0
    torch.testing.assert_close(term(logits(0), teachers()), MultiTeacher(KD(3.0))(logits(0), teachers()))


def test_takes_over_weight_layers_and_labels_copies_and_averages_layers():
    term = MultiTeacher(KD(weight=3.0, student_layer="a", teacher_layer=["b"]), "losses", "entropy")
    each = [term(logits(0), teachers(2)), term(logits(1), teachers(3))]
    for twin in (term, copy.deepcopy(term), pickle.loads(pickle.dumps(term))):
        assert (twin.weight, twin.student_layer, twin.teacher_layer) == (3.0, "a", ["b"])
        assert not twin.state_dict() and not twin.needs_labels
        both = twin([logits(0), logits(1)], [teachers(2), teachers(3)])
        torch.testing.assert_close(both, (each[0] + each[1]) / 2)
    assert MultiTeacher(DKD()).needs_labels and MultiTeacher(KD(), weighting="confidence").needs_labels


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"combine": "mean"}, "combine='mean' must be 'probabilities', 'logits' or 'losses'"),
        ({"weighting": "best"}, "weighting='best' must be 'uniform', 'entropy', 'confidence' or a list"),
        ({"weighting": []}, "must hold one number a teacher"),
        ({"weighting": [0.5, -0.5, 1.0]}, "each 0 or more"),
        ({"weighting": [1.0, 1.0, 1.0]}, "sums to 3, but a mean .* needs a sum of 1"),
        ({"term": LogitMatching()}, "LogitMatching has no temperature.* use 'logits' or 'losses'"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiTeacher(**{"term": KD(), **arguments})


def test_bad_input():
    with pytest.raises(ValueError, match=r"must have the shape \(B, K, C\), got \(5, 7\): .*Ensemble"):
        MultiTeacher(KD())(logits(0), logits(1))
    with pytest.raises(ValueError, match="student has 7 classes, teacher 4"):
        MultiTeacher(KD())(logits(0), teachers()[..., :4])
    with pytest.raises(ValueError, match="holds 2 numbers, but there are 3 teachers"):
        MultiTeacher(KD(), weighting=[0.5, 0.5])(logits(0), teachers())
    with pytest.raises(ValueError, match="weighting='confidence' needs labels, got none"):
        MultiTeacher(KD(), weighting="confidence")(logits(0), teachers())
    with pytest.raises(ValueError, match="labels must be integers"):
        MultiTeacher(KD(), weighting="confidence")(logits(0), teachers(), LABELS.float())
    with pytest.raises(ValueError, match="wrap the term in MultiTeacher"):
        KD()(logits(0), teachers())
    with pytest.raises(TypeError, match=r"must be a lkd\.losses\.Term"):
        MultiTeacher("kd")
