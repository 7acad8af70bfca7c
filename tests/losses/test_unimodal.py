"""The losses of single modalities' heads, against plain loops."""

import math

import pytest
import torch

from lkd.losses import agreement_loss, unimodal_loss

PRESENT = {
    "a": torch.tensor([True, True, False, False]),
    "b": torch.tensor([False, True, True, True]),
    "nobody": torch.zeros(4, dtype=torch.bool),
}
LABELS = torch.tensor([0, 2, 1, 1])


def logits(seed=0, fill=None, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    heads = {m: torch.randn(4, 3, generator=g, dtype=dtype) for m in PRESENT}
    if fill is not None:
        heads = {m: z.masked_fill(~PRESENT[m].unsqueeze(1), fill) for m, z in heads.items()}
    return heads, torch.randn(4, 3, generator=g, dtype=dtype)


def softmax(row):
    exps = [math.exp(value) for value in row.tolist()]
    return [e / sum(exps) for e in exps]


def by_hand(of_sample):
    """Mean over the samples that have it, then over the modalities that somebody has."""
    found = []
    for m in ("a", "b"):
        rows = [i for i in range(4) if PRESENT[m][i]]
        found.append(sum(of_sample(m, i) for i in rows) / len(rows))
    return sum(found) / 2


@pytest.mark.parametrize("fill", [0.0, 1e9, math.nan])
def test_unimodal_loss(fill):
    heads, _ = logits(fill=fill)
    expected = by_hand(lambda m, i: -math.log(softmax(heads[m][i])[LABELS[i]]))
    assert unimodal_loss(heads, PRESENT, LABELS).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("fill", [0.0, 1e9, math.nan])
def test_agreement_loss(fill):
    heads, fused = logits(fill=fill)

    def divergence(m, i):
        p, q = softmax(fused[i]), softmax(heads[m][i])
        return sum(p[k] * math.log(p[k] / q[k]) for k in range(3))

    assert agreement_loss(heads, PRESENT, fused).item() == pytest.approx(by_hand(divergence), rel=1e-9)


def test_gradients():
    heads, fused = logits()
    given = [heads[m].requires_grad_() for m in ("a", "b")]
    for loss in (
        lambda a, b: unimodal_loss({"a": a, "b": b}, PRESENT, LABELS),
        lambda a, b: agreement_loss({"a": a, "b": b}, PRESENT, fused),
    ):
        assert torch.autograd.gradcheck(loss, given)
        for z, grad, m in zip(given, torch.autograd.grad(loss(*given), given), "ab", strict=True):
            assert grad.shape == z.shape and not grad[~PRESENT[m]].any() and grad[PRESENT[m]].all()


def test_the_fused_prediction_teaches_and_learns_nothing():
    heads, fused = logits()
    fused.requires_grad_()
    heads["a"].requires_grad_()
    agreement_loss(heads, PRESENT, fused).backward()
    assert fused.grad is None and heads["a"].grad.any()


def test_heads_that_agree_cost_nothing():
    _, fused = logits()
    same = {m: fused + 1.0 for m in ("a", "b")}  # an offset is none of softmax's business
    assert agreement_loss(same, PRESENT, fused).item() == pytest.approx(0.0, abs=1e-12)


def test_half_precision_is_computed_in_single():
    heads, fused = logits(dtype=torch.bfloat16)
    assert unimodal_loss(heads, PRESENT, LABELS).dtype == torch.float32
    assert agreement_loss(heads, PRESENT, fused).dtype == torch.float32


def test_a_batch_in_which_nobody_has_anything_is_refused():
    heads, _ = logits()
    nobody = {m: PRESENT["nobody"] for m in heads}
    with pytest.raises(ValueError, match="no sample of the batch has any of the modalities a, b, nobody"):
        unimodal_loss(heads, nobody, LABELS)
