"""Knowledge review: the pyramid loss in loops, the fusion written out, and the review of layers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lkd.losses import ReviewKD, hcl_loss
from lkd.losses.review import Fusion, Review


def maps(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pooled(x, side):
    """Average of equal cells, in loops."""
    height, width = x.shape[2] // side, x.shape[3] // side
    out = np.zeros((*x.shape[:2], side, side))
    for i in range(side):
        for j in range(side):
            cell = x[:, :, i * height : (i + 1) * height, j * width : (j + 1) * width]
            out[:, :, i, j] = cell.numpy().mean((2, 3))
    return out


@pytest.mark.parametrize(
    ("side", "levels"),
    [
        (8, [(4, 0.5), (2, 0.25), (1, 0.125)]),
        (4, [(2, 0.5), (1, 0.25)]),  # 4 is no smaller than the map: 2 takes the weight of 1/2
        (2, [(1, 0.5)]),
        (1, []),
    ],
)
def test_pyramid_in_loops(side, levels):
    student, teacher = maps(0, 2, 3, side, side), maps(1, 2, 3, side, side)
    expected = np.mean((student.numpy() - teacher.numpy()) ** 2)
    for smaller, weight in levels:
        expected += weight * np.mean((pooled(student, smaller) - pooled(teacher, smaller)) ** 2)
    expected /= 1 + sum(weight for _, weight in levels)
    assert hcl_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_a_difference_that_averages_out_counts_less_than_one_that_does_not():
    checker = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)[None, None]
    zero = torch.zeros(1, 1, 8, 8)
    assert hcl_loss(torch.ones(1, 1, 8, 8), zero).item() == pytest.approx(1.0)
    assert hcl_loss(checker, zero).item() == pytest.approx(1 / 1.875)


def test_fusion_written_out():
    fusion = Fusion(3, 4, 5, fuse=True, generator=torch.Generator().manual_seed(0)).double().eval()
    features, deeper = maps(0, 2, 3, 4, 4), maps(1, 2, 4, 2, 2)
    inner, attention, outer = fusion.inner[0].weight, fusion.attention, fusion.outer[0].weight
    scale = 1 / np.sqrt(1 + 1e-5)  # batch normalization with its initial statistics
    x = torch.einsum("oi,bihw->bohw", inner[:, :, 0, 0], features) * scale
    y = deeper.repeat_interleave(2, 2).repeat_interleave(2, 3)
    z = torch.einsum("oi,bihw->bohw", attention.weight[:, :, 0, 0], torch.cat([x, y], 1))
    z = 1 / (1 + (-z - attention.bias[:, None, None]).exp())
    fused = x * z[:, 0][:, None] + y * z[:, 1][:, None]
    output, passed_on = fusion(features, deeper, torch.Size([4, 4]))
    torch.testing.assert_close(passed_on, fused)
    torch.testing.assert_close(output, F.conv2d(fused, outer, padding=1) * scale)


def test_deep_layers_reach_shallow_outputs_and_not_the_other_way():
    review = Review([3, 4, 6], [5, 5, 7], torch.Generator().manual_seed(0)).double().eval()
    student = [maps(0, 2, 3, 8, 8), maps(1, 2, 4, 4, 4), maps(2, 2, 6, 2, 2)]
    sizes = [torch.Size([8, 8]), torch.Size([4, 4]), torch.Size([2, 2])]
    before = review(student, sizes)
    deep = review([student[0], student[1], -student[2]], sizes)
    shallow = review([-student[0], student[1], student[2]], sizes)
    assert all((a - b).abs().max() > 1e-6 for a, b in zip(before, deep, strict=True))
    assert [bool((a - b).abs().max() > 1e-6) for a, b in zip(before, shallow, strict=True)] == [
        True,
        False,
        False,
    ]


def test_width_in_between_is_that_of_the_deepest_layer_at_most_512():
    assert Review([3, 600], [4, 4], torch.Generator()).fusions[0].inner[0].out_channels == 512
    review = Review([3, 6], [4, 4], torch.Generator())
    assert review.fusions[0].inner[0].out_channels == 6
    assert review.fusions[1].attention is None and review.fusions[0].attention is not None


def test_term_averages_the_layers_and_takes_embeddings_and_other_sizes():
    student = [maps(0, 2, 3, 8, 8).float(), maps(1, 2, 4, 4, 4).float(), maps(2, 2, 6).float()]
    teacher = [maps(3, 2, 5, 8, 8).float(), maps(4, 2, 7, 2, 2).float(), maps(5, 2, 9).float()]
    term = ReviewKD()
    adapter = term.adapter(student, teacher)
    value = term(student, teacher, adapter=adapter)
    fused = adapter([*student[:2], student[2][..., None, None]], [torch.Size([n, n]) for n in (8, 2, 1)])
    assert [x.shape[1:] for x in fused] == [(5, 8, 8), (7, 2, 2), (9, 1, 1)]
    expected = [
        hcl_loss(s, t if t.dim() == 4 else t[..., None, None]) for s, t in zip(fused, teacher, strict=True)
    ]
    torch.testing.assert_close(value, sum(expected) / 3)


def test_gradients():
    student = [maps(0, 2, 3, 4, 4).requires_grad_(), maps(1, 2, 4, 2, 2).requires_grad_()]
    teacher = [maps(2, 2, 5, 4, 4).requires_grad_(), maps(3, 2, 5, 2, 2)]
    term = ReviewKD()
    adapter = term.adapter(student, teacher).double()
    term(student, teacher, adapter=adapter).backward()
    assert teacher[0].grad is None and all(x.grad.any() for x in student)
    assert all(p.grad is not None and p.grad.any() for p in adapter.parameters())
    assert torch.autograd.gradcheck(lambda *s: term(list(s), teacher, adapter=adapter), student)


def test_initial_weights_depend_on_the_seed_alone():
    student, teacher = [maps(0, 2, 3, 4, 4)], [maps(1, 2, 5, 4, 4)]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = ReviewKD(seed=3).adapter(student, teacher).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = (ReviewKD(seed=seed).adapter(student, teacher).state_dict() for seed in (3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["fusions.0.inner.0.weight"], other["fusions.0.inner.0.weight"])


def test_bad_input():
    student = [maps(0, 2, 3, 4, 4), maps(1, 2, 4, 2, 2)]
    with pytest.raises(ValueError, match="student has 2 layers to compare, the teacher 1"):
        ReviewKD().adapter(student, student[:1])
    with pytest.raises(ValueError, match=r"pass what the term's adapter\(\) returned"):
        ReviewKD()(student, student)
    with pytest.raises(ValueError, match="must be maps"):
        ReviewKD().adapter([maps(0, 2, 5, 3)], [maps(1, 2, 3, 4, 4)])
    with pytest.raises(ValueError, match="do not match"):
        hcl_loss(maps(0, 2, 3, 4, 4), maps(1, 2, 3, 4, 2))
