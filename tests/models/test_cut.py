"""A network cut in two: both parts together are the network, on its own weights; and where it cannot be cut."""

import copy
import pickle

import pytest
import timm
import torch
from torch import nn

from lkd.models import CIFARResNet, Cut, MultiExit

X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (CIFARResNet(8), "layer1"),
        (CIFARResNet(14), "layer2.0"),
        (MultiExit(CIFARResNet(8), ["layer1", "layer2"], 16), "network.layer2"),
        (timm.create_model("resnet10t"), "layer2"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(784, 2)), "0"),
    ],
)
def test_the_parts_together_are_the_network(network, layer):
    network.train()
    modes = [module.training for module in network.modules()]
    cut = Cut(network, layer)
    assert [module.training for module in network.modules()] == modes
    network.eval()
    assert torch.equal(cut.tail(cut.head(X)), network(X))
    given = []
    handle = network.get_submodule(layer).register_forward_hook(lambda *args: given.append(args[2]))
    network(X)
    handle.remove()
    assert torch.equal(cut.head(X), given[0])


def test_the_parts_live_on_the_networks_own_weights():
    network = CIFARResNet(8).eval()
    cut = Cut(network, "layer1")
    before = cut.tail(cut.head(X))
    with torch.no_grad():
        network.fc.bias += 1.0
    torch.testing.assert_close(cut.tail(cut.head(X)), before + 1.0)


def test_gradients_flow_through_the_tail_alone():
    network = CIFARResNet(8).eval()
    cut = Cut(network, "layer2")
    features = cut.head(X).detach().requires_grad_()
    cut.tail(features).sum().backward()
    assert features.grad.abs().sum() > 0
    assert network.fc.weight.grad is not None and network.conv1.weight.grad is None


def test_copies_and_pickles_go_with_the_network():
    network = CIFARResNet(8).eval()
    both = {"network": network, "cut": Cut(network, "layer1")}
    for twin in (copy.deepcopy(both), pickle.loads(pickle.dumps(both))):
        assert twin["cut"].network is twin["network"] is not network
        assert torch.equal(twin["cut"].tail(twin["cut"].head(X)), network(X))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.layer(self.layer(x))


class Choosing(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else x


def test_what_cannot_be_cut():
    with pytest.raises(ValueError, match=r"layer='layer9' is not a layer of CIFARResNet"):
        Cut(CIFARResNet(8), "layer9")
    with pytest.raises(ValueError, match="is the whole network"):
        Cut(CIFARResNet(8), "")
    with pytest.raises(ValueError, match="runs 2 times in a forward of Twice"):
        Cut(Twice(), "layer")
    with pytest.raises(ValueError, match=r"the forward of Choosing around it cannot be traced"):
        Cut(Choosing(), "layer")
    with pytest.raises(ValueError, match=r"layer='layer2.0.bn1' is not all .*: x goes past it"):
        Cut(CIFARResNet(8), "layer2.0.bn1")
