"""PKD is 1 - Pearson."""

import numpy as np
import pytest
import torch
from scipy import stats

from lkd.losses import PKD, pkd_loss


def maps(seed, *shape):
    shape = shape or (2, 3, 4, 5)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_one_minus_pearson_averaged_over_the_channels():
    student, teacher = maps(0) * 7 + 2, maps(0) + maps(1)
    r = [
        stats.pearsonr(student[:, c].flatten().numpy(), teacher[:, c].flatten().numpy()).statistic
        for c in range(3)
    ]
    assert pkd_loss(student, teacher).item() == pytest.approx(1 - np.mean(r), rel=1e-10)


def test_it_is_half_the_mean_square_of_standardized_features():
    def standardized(x):
        flat = x.transpose(0, 1).reshape(3, -1)
        return (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True, correction=0)

    student, teacher = maps(0), maps(1)
    expected = (standardized(student) - standardized(teacher)).square().mean() / 2
    torch.testing.assert_close(pkd_loss(student, teacher), expected)


def test_offset_and_scale_of_a_channel_do_not_matter_but_the_sample_it_is_in_does():
    student, teacher = maps(0), maps(1)
    value = pkd_loss(student, teacher)
    scale = torch.tensor([0.1, 5.0, 100.0], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(pkd_loss(student * scale - 3, teacher * 2 + scale), value)
    # statistics are over the batch: one factor for each sample is not undone
    per_sample = torch.tensor([1.0, 20.0], dtype=torch.float64)[:, None, None, None]
    assert (pkd_loss(student * per_sample, teacher) - value).abs() > 1e-2


def test_opposite_features_give_two():
    assert pkd_loss(maps(0), -maps(0)).item() == pytest.approx(2.0)


@pytest.mark.parametrize("constant", [0.0, 3.0])
def test_a_constant_channel_is_half_and_has_a_finite_gradient(constant):
    student = maps(0).float()
    student[:, 1] = constant
    student.requires_grad_()
    teacher = student.detach().clone()
    teacher[:, 1] = maps(1)[:, 1].float()
    value = pkd_loss(student, teacher)
    value.backward()
    assert value.item() == pytest.approx(0.5 / 3, abs=1e-6)
    assert student.grad.isfinite().all() and student.grad[:, 1].abs().max() < 1


def test_sizes_meet_at_the_smaller_and_adapters_map_widths():
    large, small = maps(0, 2, 3, 4, 6), maps(1, 2, 3, 2, 3)
    pooled = large.reshape(2, 3, 2, 2, 3, 2).mean((3, 5))
    torch.testing.assert_close(pkd_loss(large, small), pkd_loss(pooled, small))
    student, teacher = maps(0).float(), maps(1, 2, 5, 4, 5).float()
    adapter = PKD().adapter(student, teacher)
    assert adapter[0].bias is None
    PKD()(student, teacher, adapter=adapter).backward()
    assert adapter[0].weight.grad.any()
    with pytest.raises(ValueError, match="student has 3 channels, teacher 5: pass the term's adapter"):
        pkd_loss(student, teacher)
    with pytest.raises(ValueError, match="must be maps"):
        pkd_loss(maps(0, 2, 3), maps(1, 2, 3))
