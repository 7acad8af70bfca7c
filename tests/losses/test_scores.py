"""What goes through a softmax over classes needs two of them, whichever loss it is."""

import pytest
import torch

from lkd.losses import (
    DIST,
    DKD,
    KD,
    NKD,
    Consistency,
    Dissimilarity,
    LogitMatching,
    MultiTeacher,
    PixelKD,
    Standardized,
    agreement_loss,
    byot_loss,
    confidence_weights,
    entropy_weights,
    mutual_losses,
)
from lkd.losses.multi_head import chain_loss

ONE, LABELS = torch.randn(4, 1, generator=torch.Generator().manual_seed(0)), torch.zeros(4, dtype=torch.long)
MEASURES = ("ce", "kl", "js", "triangular", "sed", "msed")


@pytest.mark.parametrize(
    "loss",
    [
        *(lambda t=t: t(ONE, ONE + 1, labels=LABELS) for t in (KD(), DKD(), NKD(), DIST(), Consistency())),
        *(lambda m=m: Dissimilarity(m)(ONE, ONE + 1) for m in MEASURES),
        lambda: Dissimilarity("msed")(ONE, torch.stack([ONE, ONE], 1)),
        lambda: Standardized(KD())(ONE, ONE),
        lambda: MultiTeacher(KD())(ONE, torch.stack([ONE, ONE], 1)),
        lambda: MultiTeacher(LogitMatching(), "losses", "entropy")(ONE, torch.stack([ONE, ONE], 1)),
        lambda: PixelKD()(ONE[..., None, None], ONE[..., None, None]),
        lambda: mutual_losses([ONE, ONE + 1], LABELS),
        lambda: byot_loss([ONE, ONE + 1], LABELS),
        lambda: agreement_loss({"a": ONE}, {"a": torch.ones(4, dtype=torch.bool)}, ONE),
        lambda: chain_loss([ONE, ONE], torch.stack([ONE, ONE])[None]),
        lambda: entropy_weights(torch.stack([ONE, ONE], 1)),
        lambda: confidence_weights(torch.stack([ONE, ONE], 1), LABELS),
    ],
)
def test_one_class_is_refused_with_the_way_out(loss):
    with pytest.raises(ValueError, match=r"softmax over 1 class is always 1 .*SigmoidKD for one logit"):
        loss()


def test_matching_of_raw_logits_takes_one():
    student = ONE.clone().requires_grad_()
    LogitMatching()(student, ONE + 1).backward()
    assert student.grad.abs().min() > 0
    value = MultiTeacher(LogitMatching(), "logits")(ONE, torch.stack([ONE + 1, ONE + 3], 1))
    assert value.item() == pytest.approx(2.0)


@pytest.mark.parametrize("term", [KD(), DIST(), Consistency(), Dissimilarity("js"), LogitMatching()])
@pytest.mark.parametrize("shape", [(2, 5, 3, 3), (2, 7, 5)])
def test_maps_and_tokens_are_refused(term, shape):
    with pytest.raises(ValueError, match=r"shape \(B, C\), got .*PixelKD"):
        term(torch.zeros(shape), torch.zeros(shape))


def test_a_student_in_double_and_a_teacher_in_single_precision_meet_in_double():
    student = torch.randn(
        4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    teacher = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    for term in (KD(), LogitMatching(), Dissimilarity("js")):
        value = term(student, teacher)
        torch.testing.assert_close(value, term(student, teacher.double()))
        value.backward()  # which mse_loss refuses of two types
