"""Rounding in training."""

import copy

import pytest
import torch
from torch import nn

from lkd.edge.compress.quantize.fake import fake_int8


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2))


RANGES = {"0": (-1.0, 3.0), "3": (0.0, 2.0)}
X = torch.linspace(-0.9, 2.9, 4 * 18).view(4, 2, 3, 3)


def test_weights_and_inputs_are_on_the_grid_of_the_file_and_nothing_is_left():
    made = net()
    before, state = made(X), copy.deepcopy(made.state_dict())
    with fake_int8(made, RANGES) as names:
        assert names == ["0", "3"] and made.state_dict().keys() == state.keys()
        rounded = made(X)
    assert not torch.equal(rounded, before) and (rounded - before).abs().max() < 0.05
    assert torch.equal(made(X), before) and "forward" not in vars(made[0])
    layer, scale = made[0], 4 / 255
    grid = (X / scale).round() * scale
    step = layer.weight.detach().flatten(1).abs().amax(1).view(-1, 1, 1, 1) / 127
    weight = (layer.weight / step).round() * step
    with fake_int8(made, {"0": RANGES["0"]}):
        torch.testing.assert_close(layer(X), nn.functional.conv2d(grid, weight, layer.bias))


def test_gradients_pass_and_values_outside_of_the_range_get_none():
    made, x = net(), X.clone().requires_grad_()
    with fake_int8(made, {"0": (-1.0, 1.0), "3": (0.0, 9.0)}):
        made(x).sum().backward()
    assert made[0].weight.grad.abs().sum() > 0 and made[3].weight.grad.abs().sum() > 0
    assert x.grad[X > 1.1].abs().sum() == 0 and x.grad[X < 0.9].abs().sum() > 0


def test_a_deep_copy_trains_the_copy():
    made = net()
    with fake_int8(made, RANGES):
        other = copy.deepcopy(made)
        other(X).sum().backward()
    assert made[0].weight.grad is None and other[0].weight.grad is not None


def test_copies_of_a_network_are_all_found_by_the_end_of_the_name():
    both = nn.ModuleDict({"a": net(), "b": net()})
    with fake_int8(both, {"3": (0.0, 1.0)}) as names:
        assert names == ["a.3", "b.3"]
    with (
        pytest.raises(ValueError, match="'1' is no Conv2d or Linear layer"),
        fake_int8(net(), {"1": (0.0, 1.0)}),
    ):
        pass


@pytest.mark.parametrize("order", [("conv", "block.conv"), ("block.conv", "conv")])
def test_a_layer_of_the_same_last_name_has_its_own_range(order):
    def made():
        block = nn.ModuleDict({"conv": nn.Conv2d(1, 1, 1)})
        return nn.ModuleDict({"conv": nn.Conv2d(1, 1, 1), "block": block})

    ranges = {"conv": (0.0, 1.0), "block.conv": (0.0, 9.0)}
    both = nn.ModuleDict({"a": made(), "b": made()})
    with fake_int8(both, {name: ranges[name] for name in order}):
        found = {name: vars(both.get_submodule(name))["_int8_range"] for name in ("b.conv", "b.block.conv")}
    assert found == {"b.conv": (0.0, 1.0), "b.block.conv": (0.0, 9.0)}
