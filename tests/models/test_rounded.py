"""Rounding in training: the values that arrive over the link, sample by sample, and straight gradients."""

import pytest
import torch

from lkd.models.rounded import rounded


def samples():
    return torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_as_many_levels_a_sample_and_half_a_level_off_at_most(bits):
    x = samples()
    arrived = rounded(x, bits)
    for before, after in zip(x, arrived, strict=True):
        assert len(after.unique()) <= 2**bits
        level = (before.max() - before.min()) / (2**bits - 1)
        assert (after - before).abs().max() <= level / 2 + 1e-6
        torch.testing.assert_close(after.aminmax(), before.aminmax())


def test_more_bits_are_nearer():
    x = samples()
    errors = [(rounded(x, bits) - x).square().mean().item() for bits in range(1, 9)]
    assert errors == sorted(errors, reverse=True) and errors[0] > 100 * errors[-1]


def test_gradients_pass_as_if_nothing_had_been_rounded():
    x = samples().requires_grad_()
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    (rounded(x, 2) * weight).sum().backward()
    assert torch.equal(x.grad, weight)


def test_a_constant_sample_stays_what_it_is():
    assert torch.equal(rounded(torch.full((1, 2, 2), 0.3), 2), torch.full((1, 2, 2), 0.3))


def test_bad_bits():
    for bits in (0, 9):
        with pytest.raises(ValueError, match=f"bits={bits} must be from 1 to 8"):
            rounded(samples(), bits)
