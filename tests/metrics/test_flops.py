"""FlopCount against closed forms and torch's own counter."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lkd.metrics.flops import FlopCount


def counted(work):
    with FlopCount() as count:
        work()
    return count.total


def network():
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


FORWARD = 2 * (64 * 32 + 32 * 10)  # of one sample


def test_a_training_step_is_three_times_its_forward_pass():
    net = network()
    assert counted(lambda: net(torch.zeros(5, 64)).sum().backward()) == 3 * 5 * FORWARD


def test_it_is_at_most_what_torch_counts_and_the_gradient_of_the_inputs():
    net, x = network(), torch.zeros(5, 64)
    with FlopCounterMode(display=False) as torchs:
        net(x).sum().backward()
    assert counted(lambda: net(x)) == torchs.get_total_flops() + 2 * 5 * 64 * 32


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_pass_without_gradients_counts_once(mode):
    net = network()
    with mode():
        assert counted(lambda: net(torch.zeros(5, 64))) == 5 * FORWARD


def test_frozen_networks_count_once_unless_gradients_pass_through():
    net = network().requires_grad_(False)
    assert counted(lambda: net(torch.zeros(5, 64))) == 5 * FORWARD
    assert counted(lambda: net(torch.zeros(5, 64, requires_grad=True))) == 3 * 5 * FORWARD


def test_further_calls_are_known_by_their_shapes():
    net = network()

    def work():
        for size in (5, 5, 2, 5):
            net(torch.zeros(size, 64))

    assert counted(work) == 3 * (5 + 5 + 2 + 5) * FORWARD


class ByName(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, inputs=None):
        return {"logits": self.net(inputs["x"])}


def test_inputs_given_by_name_or_in_dicts():
    net = ByName()
    assert counted(lambda: [net({"x": torch.zeros(n, 64)}) for n in (5, 2)]) == 3 * 7 * FORWARD
    assert counted(lambda: [net(inputs={"x": torch.zeros(n, 64)}) for n in (5, 2)]) == 3 * 7 * FORWARD


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_convolutions_and_attention_as_torch_counts_them(mode):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Flatten(2), nn.Linear(9, 8))
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.zeros(2, 3, 7, 7)
    with mode():
        with FlopCounterMode(display=False) as torchs:
            y = net(x)
            attention(y, y, y)
        times = 3 if mode is torch.enable_grad else 1
        assert counted(lambda: attention(*[net(x)] * 3)) == times * torchs.get_total_flops() > 0


def test_a_failing_network_leaves_nothing_behind():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("broken")

    count = FlopCount()
    with count:
        with pytest.raises(RuntimeError, match="broken"):
            nn.Sequential(nn.Linear(64, 2), Broken())(torch.zeros(1, 64))
        before, net = count.total, network()
        net(torch.zeros(5, 64))
    assert count.total - before == 3 * 5 * FORWARD
    net(torch.zeros(5, 64))
    assert count.total - before == 3 * 5 * FORWARD  # it is off


def test_counting_changes_no_number():
    net = nn.Sequential(nn.Linear(64, 32), nn.Dropout(), nn.Linear(32, 10))
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))

    def gradient():
        torch.manual_seed(1)
        net.zero_grad()
        net(x).square().sum().backward()
        return [p.grad.clone() for p in net.parameters()]

    plain, state = gradient(), torch.get_rng_state()
    with FlopCount():
        found = gradient()
    assert all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))
    assert torch.equal(state, torch.get_rng_state())
