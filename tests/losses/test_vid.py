"""Variational information distillation: the Gaussian, and variances that are learned."""

import math

import pytest
import torch
from scipy import stats

from lkd.losses import VID, vid_loss


def maps(seed, *shape):
    shape = shape or (2, 3, 4, 5)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


VARIANCE = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)


def test_it_is_the_gaussians_negative_log_density_less_a_constant():
    mean, teacher = maps(0), maps(1)
    scale = VARIANCE.sqrt()[:, None, None].expand_as(mean)
    density = stats.norm.logpdf(teacher.numpy(), mean.numpy(), scale.numpy())
    expected = -density.mean() - 0.5 * math.log(2 * math.pi)
    assert vid_loss(mean, teacher, VARIANCE).item() == pytest.approx(expected, rel=1e-12)


def test_the_best_variance_is_the_mean_squared_error_of_the_channel():
    mean, teacher = maps(0), maps(1)
    error = (mean - teacher).square().mean((0, 2, 3)).requires_grad_()
    value = vid_loss(mean, teacher, error)
    value.backward()
    assert error.grad.abs().max() < 1e-12
    assert value.item() == pytest.approx(0.5 * (1 + error.log().mean().item()))
    for factor in (0.8, 1.25):
        assert vid_loss(mean, teacher, error * factor) > value


def test_gradcheck_and_no_gradient_into_the_teacher():
    mean, variance = maps(0).requires_grad_(), VARIANCE.clone().requires_grad_()
    teacher = maps(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda m, v: vid_loss(m, maps(1), v), (mean, variance))
    vid_loss(mean, teacher, variance).backward()
    assert teacher.grad is None and mean.grad.any()


def test_a_perfect_mean_leaves_the_log_of_the_variance():
    value = vid_loss(maps(0), maps(0), VARIANCE)
    assert value.item() == pytest.approx(0.5 * VARIANCE.log().mean().item())


def test_term_starts_with_the_variance_asked_for_and_averages_the_layers():
    student = [maps(0, 2, 4, 8, 8).float(), maps(1, 2, 8).float()]
    teacher = [maps(2, 2, 6, 4, 4).float(), maps(3, 2, 16).float()]
    term = VID(variance=2.0)
    adapter = term.adapter(student, teacher)
    for regressor, width in zip(adapter, (6, 16), strict=True):
        torch.testing.assert_close(regressor.variance, torch.full((width,), 2.0))
        assert [m.out_channels for m in regressor.net if hasattr(m, "weight")] == [width] * 3
    pooled = student[0].reshape(2, 4, 4, 2, 4, 2).mean((3, 5))  # before the regressor
    expected = [
        vid_loss(adapter[0].net(pooled), teacher[0], torch.full((6,), 2.0)),
        vid_loss(
            adapter[1].net(student[1][..., None, None]), teacher[1][..., None, None], torch.full((16,), 2.0)
        ),
    ]
    torch.testing.assert_close(term(student, teacher, adapter=adapter), sum(expected) / 2)


def test_variances_are_parameters_that_receive_gradient_and_approach_the_error():
    student, teacher = maps(0, 8, 4, 3, 3).float(), 3 * maps(1, 8, 5, 3, 3).float()
    term = VID()
    adapter = term.adapter(student, teacher)
    names = [name for name, _ in adapter.named_parameters()]
    assert "0.log_scale" in names
    before = adapter[0].variance.detach().clone()
    term(student, teacher, adapter=adapter).backward()
    assert adapter[0].log_scale.grad.abs().min() > 0
    assert all(p.grad is not None and p.grad.any() for p in adapter.parameters())
    for p in adapter[0].net.parameters():
        p.requires_grad_(False)  # the mean stays, so that the best variance is known
    optimizer = torch.optim.Adam([adapter[0].log_scale], lr=0.3)
    for _ in range(300):
        optimizer.zero_grad()
        term(student, teacher, adapter=adapter).backward()
        optimizer.step()
    error = (adapter[0](student) - teacher).square().mean((0, 2, 3))
    torch.testing.assert_close(adapter[0].variance.detach(), error, rtol=2e-2, atol=0)
    assert (adapter[0].variance - before).abs().min() > 0.1


def test_large_and_tiny_variances_stay_finite():
    term = VID(variance=200.0)
    student = maps(0, 2, 3).float()
    adapter = term.adapter(student, student)
    torch.testing.assert_close(adapter[0].variance, torch.full((3,), 200.0))
    with torch.no_grad():
        adapter[0].log_scale.fill_(-200.0)
    assert (adapter[0].variance == 1e-5).all()
    assert term(student, student, adapter=adapter).isfinite()


def test_half_precision_features_and_autocast():
    student, teacher = maps(0, 2, 4, 3, 3).bfloat16(), maps(1, 2, 6, 3, 3).bfloat16()
    term = VID()
    adapter = term.adapter(student, teacher)
    outside = term(student, teacher, adapter=adapter)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = term(student, teacher, adapter=adapter)
    assert inside.dtype == outside.dtype == torch.float32
    torch.testing.assert_close(inside, outside, rtol=1e-2, atol=0)


def test_bad_input():
    student = maps(0, 2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"variance=.* must be above 1e-05"):
        VID(variance=0.0)
    with pytest.raises(ValueError, match=r"variance must have the shape \(3,\), got \(4,\)"):
        vid_loss(student, student, torch.ones(4))
    with pytest.raises(ValueError, match=r"pass what the term's adapter\(\) returned"):
        VID()(student, student)
    with pytest.raises(ValueError, match="student has 2 layers to compare, the teacher 1"):
        VID().adapter([student, student], [student])
    with pytest.raises(ValueError, match="made for 1 layers, the student gave 2"):
        VID()([student, student], [student, student], adapter=VID().adapter(student, student))
