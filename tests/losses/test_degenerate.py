"""Shapes of which a loss can learn nothing are refused, and no loss is without a gradient on any other."""

import pytest
import torch

from lkd.losses import (
    CWD,
    DIST,
    DKD,
    KD,
    NKD,
    NST,
    PKT,
    RKD,
    AttentionTransfer,
    CorrelationCongruence,
    FitNets,
    MultiTeacher,
    QueueCRD,
    SimilarityPreserving,
    Standardized,
    dkd_loss,
    nkd_loss,
)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradient(term, shape, labels=None):
    student = drawn(*shape).requires_grad_()
    term(student, drawn(*shape, seed=1), labels=labels).backward()
    return student.grad.abs().max().item()


@pytest.mark.parametrize("loss", [AttentionTransfer, CWD, NST])
def test_maps_of_one_position(loss):
    with pytest.raises(ValueError, match=rf"{loss.__name__} .*maps of one position"):
        loss()(drawn(4, 6, 1, 1), drawn(4, 6, 1, 1))
    with pytest.raises(ValueError, match="maps of one position"):  # sizes meet at the smaller one
        loss()([drawn(4, 6, 3, 3), drawn(4, 6, 3, 3)], [drawn(4, 6, 3, 3), drawn(4, 6, 1, 1)])
    assert gradient(loss(), (4, 6, 1, 2)) > 1e-4
    fine, coarse = ([drawn(4, 6, size, size, seed=k) for k in (0, 1)] for size in (3, 1))
    with pytest.warns(
        UserWarning, match=f"{loss.__name__} leaves out 1 of 2 layers, whose maps have one position"
    ):
        some = loss()([fine[0], coarse[0]], [fine[1], coarse[1]])
    assert some == loss()(*fine)
    assert gradient(FitNets(), (4, 6, 1, 1)) > 1e-2


@pytest.mark.parametrize("inner", [KD(), DIST(), DKD()])
def test_z_scores_of_two_classes(inner):
    labels = torch.zeros(8, dtype=torch.long)
    with pytest.raises(
        ValueError, match=rf"Standardized with 2 classes.*give {type(inner).__name__} by itself"
    ):
        gradient(Standardized(inner), (8, 2), labels)
    assert gradient(Standardized(inner), (8, 3), labels) > 1e-3 and gradient(inner, (8, 2), labels) > 1e-3


@pytest.mark.parametrize("loss", [PKT, CorrelationCongruence])
def test_samples_of_one_number(loss):
    with pytest.raises(ValueError, match=r"samples of one number \(8, 1\)"):
        loss()(drawn(8, 1), drawn(8, 1))
    assert gradient(loss(), (8, 2)) > 1e-5
    queue = QueueCRD(queue=8, dim=4)
    with pytest.raises(ValueError, match="samples of one number"):
        queue(drawn(8, 1), drawn(8, 1), torch.arange(8) % 2, queue.adapter(drawn(8, 1), drawn(8, 1)))


@pytest.mark.parametrize(
    ("term", "least"),
    [
        (RKD(), 3),
        (PKT(), 3),
        (SimilarityPreserving(), 2),
        (CorrelationCongruence(), 2),
        (DIST(beta=0), 3),
        (DIST(), 1),
        (KD(), 1),
        (MultiTeacher(DIST(beta=0), combine="logits"), 3),
    ],
)
def test_the_least_samples_are_what_gives_a_gradient(term, least):
    assert term.least_samples == least
    term = term.term if isinstance(term, MultiTeacher) else term
    assert gradient(term, (least, 6)) > 1e-4
    if least > 1:
        assert gradient(term, (least - 1, 6)) < 1e-5


@pytest.mark.parametrize("loss", [dkd_loss, nkd_loss])
def test_samples_without_a_label_are_left_out(loss):
    student, teacher, labels = drawn(4, 5), drawn(4, 5, seed=1), torch.tensor([2, -100, 0, -100])
    kept = labels >= 0
    expected = loss(student[kept], teacher[kept], labels[kept])
    assert torch.allclose(loss(student, teacher, labels), expected)
    student.requires_grad_()
    none = loss(student, teacher, torch.full((4,), -100))
    none.backward()
    assert none == 0 and student.grad.abs().max() == 0


@pytest.mark.parametrize("loss", [dkd_loss, nkd_loss])
@pytest.mark.parametrize("wrong", [5, -1, 255])
def test_other_labels_are_refused(loss, wrong):
    with pytest.raises(ValueError, match=r"labels must be classes from 0 to 4.*or -100"):
        loss(drawn(2, 5), drawn(2, 5), torch.tensor([0, wrong]))


@pytest.mark.parametrize("term", [DKD(), NKD()])
def test_several_teachers_leave_the_same_samples_out(term):
    outer = MultiTeacher(term, combine="losses", weighting="confidence")
    student, teachers, labels = drawn(4, 5), drawn(4, 2, 5, seed=1), torch.tensor([2, -100, 0, 1])
    kept = labels >= 0
    expected = outer(student[kept], teachers[kept], labels=labels[kept])
    assert torch.allclose(outer(student, teachers, labels=labels), expected)
    with pytest.raises(ValueError, match="labels must be classes from 0 to 4"):
        outer(student, teachers, labels=labels + 7)


def test_the_other_one_of_two_classes():
    with pytest.raises(
        ValueError, match="alpha=0, as in FedNTD, distills the classes that are not the true one"
    ):
        DKD(alpha=0)(drawn(2, 2), drawn(2, 2), labels=torch.tensor([0, 1]))
