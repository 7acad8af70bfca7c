"""Masked generative distillation: the masks, the block written out, and the sum."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lkd.losses import MGD, mask_features, mgd_loss


def maps(seed, *shape):
    shape = shape or (2, 3, 4, 5)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_loss_is_the_sum_over_a_sample():
    generated, teacher = maps(0), maps(1)
    expected = np.sum((generated.double().numpy() - teacher.double().numpy()) ** 2) / 2
    assert mgd_loss(generated, teacher).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("masked", "varies"), [("positions", (2, 3)), ("channels", (1,))])
def test_masks_hit_the_share_asked_for(masked, varies):
    out = mask_features(torch.ones(50, 40, 8, 8), 0.3, torch.Generator().manual_seed(0), masked)
    assert set(out.unique().tolist()) == {0.0, 1.0}
    assert 1 - out.mean().item() == pytest.approx(0.3, abs=0.02)
    others = tuple(d for d in (1, 2, 3) if d not in varies)
    assert torch.equal(out.amax(others), out.amin(others))  # the same along the others
    assert not torch.equal(out[0], out[1])


def test_ratio_zero_masks_nothing():
    assert torch.equal(mask_features(maps(0), 0.0, torch.Generator()), maps(0))


def convolved(x, layer):
    """A 3x3 convolution in loops."""
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(x), len(weight), *x.shape[2:]))
    for h in range(x.shape[2]):
        for w in range(x.shape[3]):
            window = padded[:, :, h : h + 3, w : w + 3]
            out[:, :, h, w] = np.tensordot(window, weight, axes=([1, 2, 3], [1, 2, 3])) + bias
    return out


def test_without_a_mask_it_is_the_block_on_the_students_features():
    student, teacher = maps(0), maps(1, 2, 4, 4, 5)
    term = MGD(ratio=0.0)
    adapter = term.adapter(student, teacher)
    align, (first, _, second) = adapter.align[0], adapter.generate[0]
    x = np.einsum(
        "oi,bihw->bohw", align.weight.detach().double().numpy()[:, :, 0, 0], student.double().numpy()
    )
    x = convolved(np.maximum(convolved(x, first), 0), second)
    expected = np.sum((x - teacher.double().numpy()) ** 2) / 2
    assert term(student, teacher, adapter=adapter).item() == pytest.approx(expected, rel=1e-5)


def test_mask_comes_after_the_alignment_and_before_the_block():
    student = maps(0)
    term = MGD(ratio=0.5, seed=4)
    adapter = term.adapter(student, student)
    mask = mask_features(torch.ones_like(student), 0.5, copy.deepcopy(adapter.draws).generator("cpu"))
    assert 0 < mask.mean() < 1
    expected = mgd_loss(adapter.generate[0](student * mask), student)
    torch.testing.assert_close(term(student, student, adapter=adapter), expected)


def test_masks_change_from_step_to_step_depend_on_the_seed_and_resume():
    student = maps(0)

    def run(seed, steps, state=None):
        term = MGD(seed=seed)
        adapter = MGD(seed=0).adapter(student, student)
        adapter.draws.seed = seed
        if state is not None:
            adapter.load_state_dict(state)
        values = [term(student, student, adapter=adapter).item() for _ in range(steps)]
        return values, adapter.state_dict()

    torch.manual_seed(1)
    before = torch.get_rng_state()
    whole, _ = run(0, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(set(whole)) == 4
    torch.manual_seed(2)
    half, state = run(0, 2)
    assert half + run(0, 2, state)[0] == whole
    assert run(1, 4)[0] != whole


def test_a_rehearsal_without_gradients_draws_what_the_first_step_will():
    student = maps(0)
    term = MGD()
    adapter = term.adapter(student, student)
    with torch.no_grad():
        rehearsed = term(student, student, adapter=adapter)
    torch.testing.assert_close(term(student, student, adapter=adapter), rehearsed)


def test_levels_are_averaged_sizes_meet_and_widths_are_aligned():
    student = [maps(0, 2, 3, 8, 8), maps(1, 2, 6, 4, 4)]
    teacher = [maps(2, 2, 4, 4, 4), maps(3, 2, 6, 4, 4)]
    term = MGD(ratio=0.0)
    adapter = term.adapter(student, teacher)
    assert [type(m) for m in adapter.align] == [nn.Conv2d, nn.Identity]
    pooled = student[0].reshape(2, 3, 4, 2, 4, 2).mean((3, 5))
    expected = [
        mgd_loss(adapter.generate[0](adapter.align[0](pooled)), teacher[0]),
        mgd_loss(adapter.generate[1](student[1]), teacher[1]),
    ]
    torch.testing.assert_close(term(student, teacher, adapter=adapter), sum(expected) / 2)


def test_gradients():
    student, teacher = maps(0).requires_grad_(), maps(1, 2, 4, 4, 5).requires_grad_()
    term = MGD()
    adapter = term.adapter(student, teacher)
    term(student, teacher, adapter=adapter).backward()
    assert student.grad.any() and teacher.grad is None
    assert all(p.grad.any() for p in adapter.parameters())
    block = MGD(ratio=0.0).adapter(student, teacher).double()
    x = maps(0, 1, 3, 2, 2).double().requires_grad_()
    target = maps(1, 1, 4, 2, 2).double()
    assert torch.autograd.gradcheck(lambda s: MGD(ratio=0.0)(s, target, adapter=block), x)


def test_half_precision_features_and_autocast():
    student, teacher = maps(0).bfloat16(), maps(1, 2, 4, 4, 5).bfloat16()
    term = MGD(ratio=0.0)
    adapter = term.adapter(student, teacher)
    outside = term(student, teacher, adapter=adapter)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = term(student, teacher, adapter=adapter)
    assert inside.dtype == outside.dtype == torch.float32
    torch.testing.assert_close(inside, outside, rtol=2e-2, atol=0)


def test_bad_input():
    for ratio in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"ratio=.* must be in \[0, 1\)"):
            MGD(ratio=ratio)
    with pytest.raises(ValueError, match="masked='rows' must be 'positions' or 'channels'"):
        MGD(masked="rows")
    with pytest.raises(ValueError, match=r"pass what the term's adapter\(\) returned"):
        MGD()(maps(0), maps(1))
    with pytest.raises(ValueError, match="must be maps"):
        MGD().adapter(maps(0, 2, 3), maps(1, 2, 3))
    with pytest.raises(ValueError, match="made for 1 layers, the student gave 2"):
        MGD()([maps(0)] * 2, [maps(1)] * 2, adapter=MGD().adapter(maps(0), maps(1)))
    with pytest.raises(ValueError, match="student has 2 layers to compare, the teacher 1"):
        MGD().adapter([maps(0)] * 2, [maps(1)])
