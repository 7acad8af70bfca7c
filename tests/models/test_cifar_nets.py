"""CIFAR networks: parameter counts as published, weights by RepDistiller's names, what they compute, layer addresses."""

import pytest
import torch
import torch.nn.functional as F

from lkd.models import CIFARResNet, WideResNet
from lkd.taps import Taps

WIDE = [32, 64, 128, 256]


def count(network):
    return sum(p.numel() for p in network.parameters())


def conv_bn(before, after, side=3):
    return before * after * side**2 + 2 * after


def resnet_count(depth, channels, classes):
    """Convolutions without bias, two numbers a channel of batch norm, 1x1 shortcuts where size or width change."""
    total = conv_bn(3, channels[0])
    for stage in range(3):
        for block in range((depth - 2) // 6):
            before = channels[stage] if block == 0 else channels[stage + 1]
            total += conv_bn(before, channels[stage + 1]) + conv_bn(channels[stage + 1], channels[stage + 1])
            if block == 0 and (stage > 0 or before != channels[stage + 1]):
                total += conv_bn(before, channels[stage + 1], 1)
    return total + (channels[3] + 1) * classes


@pytest.mark.parametrize(
    ("depth", "channels", "millions"),
    [  # as the tables of distillation studies on CIFAR-100 print them
        (8, (16, 16, 32, 64), "0.08"),
        (14, (16, 16, 32, 64), "0.18"),
        (20, (16, 16, 32, 64), "0.28"),
        (32, (16, 16, 32, 64), "0.47"),
        (44, (16, 16, 32, 64), "0.67"),
        (56, (16, 16, 32, 64), "0.86"),
        (110, (16, 16, 32, 64), "1.74"),
        (8, WIDE, "1.23"),
        (32, WIDE, "7.43"),
    ],
)
def test_resnets_have_their_number_of_parameters(depth, channels, millions):
    number = count(CIFARResNet(depth, 100, channels))
    assert number == resnet_count(depth, channels, 100)
    assert f"{number / 1e6:.2f}" == millions


@pytest.mark.parametrize(
    ("depth", "widen", "millions"), [(16, 1, "0.18"), (16, 2, "0.70"), (40, 1, "0.57"), (40, 2, "2.26")]
)
def test_wide_resnets_have_their_number_of_parameters(depth, widen, millions):
    assert f"{count(WideResNet(depth, widen, 100)) / 1e6:.2f}" == millions


def randomized(network):
    """Other weights and statistics than the initial ones, which would hide a missing batch norm."""
    generator = torch.Generator().manual_seed(0)
    for value in [*network.parameters(), *network.buffers()]:
        if value.is_floating_point():
            value.data.copy_(0.2 + 0.5 * torch.rand(value.shape, generator=generator))
    return network.eval()


def bn(x, w, name):
    mean, var, weight, bias = (
        w[f"{name}.{k}"].reshape(-1, 1, 1) for k in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def conv(x, w, name, stride=1):
    weight = w[f"{name}.weight"]
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)


def test_resnet_by_its_equations():
    network = randomized(CIFARResNet(14, 5, (2, 2, 3, 4)))
    x, w = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)), network.state_dict()
    y = bn(conv(x, w, "conv1"), w, "bn1").relu()
    for stage in (1, 2, 3):
        for block in (0, 1):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = bn(conv(y, w, f"{name}.conv1", stride), w, f"{name}.bn1").relu()
            inner = bn(conv(inner, w, f"{name}.conv2"), w, f"{name}.bn2")
            if stride == 2:
                y = bn(conv(y, w, f"{name}.downsample.0", 2), w, f"{name}.downsample.1")
            y = (inner + y).relu()
    expected = y.mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"]
    torch.testing.assert_close(network(x), expected)


def test_wide_resnet_by_its_equations():
    network = randomized(WideResNet(16, 1, 5))
    x, w = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)), network.state_dict()
    y = conv(x, w, "conv1")
    for stage in (1, 2, 3):
        for block in (0, 1):
            name, stride = f"block{stage}.layer.{block}", 2 if stage > 1 and block == 0 else 1
            active = bn(y, w, f"{name}.bn1").relu()
            inner = bn(conv(active, w, f"{name}.conv1", stride), w, f"{name}.bn2").relu()
            inner = conv(inner, w, f"{name}.conv2")
            if stride == 2:  # with widen=1 the first stage keeps its width
                y = conv(active, w, f"{name}.convShortcut", 2)
            y = inner + y
    expected = bn(y, w, "bn1").relu().mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"]
    torch.testing.assert_close(network(x), expected)


def test_first_stage_has_a_shortcut_only_where_the_width_changes():
    names = CIFARResNet(8, 10, WIDE).state_dict()
    assert "layer1.0.downsample.0.weight" in names
    assert "layer1.0.downsample.0.weight" not in CIFARResNet(8).state_dict()
    assert "block1.layer.0.convShortcut.weight" in WideResNet(16, 2).state_dict()


@pytest.mark.parametrize(
    ("network", "addresses", "shapes"),
    [
        (
            CIFARResNet(8, 7, WIDE),
            ["layer1", "layer2", "layer3", "pool", "fc"],
            [(64, 32, 32), (128, 16, 16), (256, 8, 8), (256,), (7,)],
        ),
        (
            WideResNet(16, 2, 7),
            ["block1", "block2", "block3", "relu", "pool", "fc"],
            [(32, 32, 32), (64, 16, 16), (128, 8, 8), (128, 8, 8), (128,), (7,)],
        ),
    ],
    ids=["resnet8x4", "wrn-16-2"],
)
def test_layers_that_distillation_taps(network, addresses, shapes):
    with Taps(network, addresses) as taps:
        logits = network(torch.randn(2, 3, 32, 32))
    assert [tuple(taps.output(a).shape[1:]) for a in addresses] == shapes
    assert torch.equal(taps.output("fc"), logits)
    embedding = taps.output(addresses[-3]).mean((2, 3))
    torch.testing.assert_close(taps.output("pool"), embedding)
    assert taps.output("layer1" if "layer1" in addresses else "relu").min() >= 0


def test_other_sizes_and_channels():
    assert CIFARResNet(8, 3, in_channels=1)(torch.zeros(2, 1, 12, 20)).shape == (2, 3)
    assert WideResNet(10, 1, 3, dropout=0.5, in_channels=1)(torch.zeros(2, 1, 12, 20)).shape == (2, 3)


def test_bad_input():
    with pytest.raises(ValueError, match="depth=18 must be 6n"):
        CIFARResNet(18)
    with pytest.raises(ValueError, match=r"channels=.* four"):
        CIFARResNet(8, channels=[16, 32, 64])
    with pytest.raises(ValueError, match="depth=20 must be 6n"):
        WideResNet(20, 2)
    with pytest.raises(ValueError, match="widen=0"):
        WideResNet(16, 0)
