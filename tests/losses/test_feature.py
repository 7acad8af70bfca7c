"""Feature losses against loops in numpy, and their adapters."""

import numpy as np
import pytest
import torch
from torch import nn

from lkd.losses import CWD, AttentionTransfer, FitNets, attention_transfer_loss, cwd_loss, fitnets_loss


def maps(seed, *shape):
    shape = shape or (2, 3, 4, 5)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def halved(x):
    """Average of 2 x 2 cells, in loops."""
    b, c, h, w = x.shape
    out = np.zeros((b, c, h // 2, w // 2))
    for i in range(h // 2):
        for j in range(w // 2):
            out[:, :, i, j] = x.numpy()[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3))
    return torch.from_numpy(out)


@pytest.mark.parametrize("shape", [(4, 6), (2, 5, 6), (2, 3, 4, 5)])
def test_fitnets_is_the_mean_square_in_loops(shape):
    student, teacher = maps(0, *shape), maps(1, *shape)
    pairs = zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    expected = sum((s - t) ** 2 for s, t in pairs) / student.numel()
    assert fitnets_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", [fitnets_loss, attention_transfer_loss, cwd_loss])
def test_the_larger_map_is_averaged_down(loss):
    large, small = maps(0, 2, 3, 8, 6), maps(1, 2, 3, 4, 3)
    torch.testing.assert_close(loss(large, small), loss(halved(large), small))
    torch.testing.assert_close(loss(small, large), loss(small, halved(large)))


def test_maps_meet_at_the_smaller_of_each_side():
    wide, high = maps(0, 2, 3, 2, 6), maps(1, 2, 3, 4, 3)
    wide_down = (wide[..., 0::2] + wide[..., 1::2]) / 2
    high_down = (high[:, :, 0::2] + high[:, :, 1::2]) / 2
    torch.testing.assert_close(fitnets_loss(wide, high), fitnets_loss(wide_down, high_down))


def attention_reference(student, teacher, p):
    total, (batch, _, height, width) = 0.0, student.shape
    for b in range(batch):
        vectors = []
        for x in (student.numpy()[b], teacher.numpy()[b]):
            attention = [np.mean(np.abs(x[:, i, j]) ** p) for i in range(height) for j in range(width)]
            vectors.append(np.array(attention) / np.sqrt(np.sum(np.square(attention))))
        total += np.sum((vectors[0] - vectors[1]) ** 2)
    return total / (batch * height * width)


@pytest.mark.parametrize("p", [1.0, 2.0, 4.0])
def test_attention_transfer_in_loops_with_other_channels(p):
    student, teacher = maps(0), maps(1, 2, 7, 4, 5)
    value = attention_transfer_loss(student, teacher, p)
    assert value.item() == pytest.approx(attention_reference(student, teacher, p), rel=1e-10)
    torch.testing.assert_close(AttentionTransfer(p=p)([student], [teacher]), value)


def test_attention_ignores_the_scale_of_a_map_but_not_its_place():
    student, teacher = maps(0), maps(1)
    scale = torch.tensor([0.1, 30.0], dtype=torch.float64)[:, None, None, None]
    value = attention_transfer_loss(student, teacher)
    torch.testing.assert_close(attention_transfer_loss(student * scale, teacher * 5), value)
    assert (attention_transfer_loss(student.flip(3), teacher) - value).abs() > 1e-3


def test_attention_of_a_dead_layer_has_finite_gradients():
    student = torch.zeros(2, 3, 4, 5, requires_grad=True)
    value = attention_transfer_loss(student, maps(1).float())
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all()


def cwd_reference(student, teacher, tau):
    batch, channels = student.shape[:2]
    total = 0.0
    for b in range(batch):
        for c in range(channels):
            s, t = (np.exp(x.numpy()[b, c].ravel() / tau) for x in (student, teacher))
            s, t = s / s.sum(), t / t.sum()
            total += np.sum(t * np.log(t / s))
    return total * tau**2 / (channels * batch)


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_cwd_in_loops(tau):
    student, teacher = maps(0), maps(1)
    value = cwd_loss(student, teacher, tau)
    assert value.item() == pytest.approx(cwd_reference(student, teacher, tau), rel=1e-10)
    torch.testing.assert_close(CWD(tau=tau)([student], [teacher]), value)


def test_cwd_ignores_the_offset_of_a_channel_but_not_its_scale():
    student, teacher = maps(0), maps(1)
    shift = maps(2, 2, 3, 1, 1)
    value = cwd_loss(student, teacher)
    torch.testing.assert_close(cwd_loss(student + 5 * shift, teacher - shift), value)
    assert (cwd_loss(2 * student, teacher) - value).abs() > 1e-2


@pytest.mark.parametrize(
    ("student", "teacher", "kind"),
    [
        (maps(0, 2, 4), maps(1, 2, 6), nn.Linear),
        (maps(0, 2, 5, 4), maps(1, 2, 5, 6), nn.Linear),
        (maps(0, 2, 4, 3, 3), maps(1, 2, 6, 3, 3), nn.Conv2d),
    ],
)
def test_adapters_map_the_students_channels(student, teacher, kind):
    term = FitNets()
    adapter = term.adapter(student.float(), teacher.float())
    assert isinstance(adapter, nn.ModuleList) and isinstance(adapter[0], kind)
    loss = term(student.float(), teacher.float(), None, adapter)
    loss.backward()
    weight = adapter[0].weight.detach().double().reshape(6, 4)
    channel = -1 if student.dim() == 3 else 1
    mapped = np.moveaxis(
        np.tensordot(student.numpy(), weight.numpy(), axes=([channel % student.dim()], [1])), -1, channel
    )
    assert loss.item() == pytest.approx(np.mean((mapped - teacher.numpy()) ** 2), rel=1e-5)
    assert adapter[0].weight.grad.any() and adapter[0].bias.grad.any()


@pytest.mark.parametrize("term", [FitNets(), CWD()])
def test_adapters_exist_only_where_widths_differ(term):
    student, teacher = (
        [maps(0, 2, 4, 2, 2).float(), maps(1).float()],
        [maps(2, 2, 6, 2, 2).float(), maps(3).float()],
    )
    adapter = term.adapter(student, teacher)
    assert [type(module) for module in adapter] == [nn.Conv2d, nn.Identity]
    assert term(student, teacher, adapter=adapter).isfinite()
    assert term.adapter(student[1], teacher[1]) is None
    with pytest.raises(ValueError, match="student has 4 channels, teacher 6: pass the term's adapter"):
        term(student, teacher)
    with pytest.raises(ValueError, match="made for 2 layers, the student gave 1"):
        term(student[0], teacher[0], adapter=adapter)
    with pytest.raises(ValueError, match="student has 2 layers to adapt, the teacher 1"):
        term.adapter(student, teacher[0])


def test_adapters_depend_on_the_seed_alone():
    student, teacher = maps(0, 2, 4).float(), maps(1, 2, 6).float()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = FitNets(seed=3).adapter(student, teacher)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = FitNets(seed=3).adapter(student, teacher), FitNets(seed=4).adapter(student, teacher)
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)
    assert 0.1 < first[0].weight.std() < 0.5  # uniform within 1/sqrt(4): .29


def test_adapters_take_half_precision_features_in_and_outside_autocast():
    term, student, teacher = FitNets(), maps(0, 2, 4).bfloat16(), maps(1, 2, 6).bfloat16()
    adapter = term.adapter(student, teacher)
    assert adapter[0].weight.dtype == torch.float32
    outside = term(student, teacher, adapter=adapter)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = term(student, teacher, adapter=adapter)
    assert inside.dtype == outside.dtype == torch.float32
    torch.testing.assert_close(inside, outside, rtol=2e-2, atol=0)


def test_an_own_module_serves_as_adapter():
    adapter = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6))
    assert FitNets()(maps(0, 2, 4).float(), maps(1, 2, 6).float(), adapter=adapter).isfinite()


def test_cwd_adapters_have_no_bias():
    assert CWD().adapter(maps(0), maps(1, 2, 4, 4, 5))[0].bias is None


def test_bad_input():
    with pytest.raises(ValueError, match="of different kinds"):
        FitNets().adapter(maps(0), maps(1, 2, 5))
    with pytest.raises(ValueError, match="do not match"):
        fitnets_loss(maps(0, 2, 5, 4), maps(1, 2, 6, 4))
    with pytest.raises(ValueError, match="do not match"):
        fitnets_loss(maps(0), maps(1, 2, 5))
    with pytest.raises(ValueError, match=r"or maps \(B, C, H, W\)"):
        FitNets().adapter(maps(0, 1, 2, 3, 4, 5), maps(0, 1, 2, 3, 4, 5))
    for loss in (attention_transfer_loss, cwd_loss):
        with pytest.raises(ValueError, match="student's features must be maps"):
            loss(maps(0, 2, 5), maps(1))
    with pytest.raises(ValueError, match=r"p=0.5 must be 1 or more"):
        attention_transfer_loss(maps(0), maps(1), 0.5)
    with pytest.raises(ValueError, match=r"tau=.* must be above 0"):
        cwd_loss(maps(0), maps(1), 0.0)
    with pytest.raises(ValueError, match=r"tau=.* must be above 0"):
        CWD(tau=-1.0)
