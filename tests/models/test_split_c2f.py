"""C2f blocks split in two are the same function."""

import copy

import pytest
import torch
from torch import nn

from lkd.models import YOLO
from lkd.models.split_c2f import SplitC2f, split

from ..detectors import needs_yolo


@needs_yolo
@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolo11n.yaml"])
def test_outputs_and_gradients_are_the_same_bit_for_bit(name):
    torch.manual_seed(0)
    network = YOLO(name, num_classes=2)
    twin = copy.deepcopy(network)
    names = split(twin)
    assert len(names) == 8 and split(twin) == names
    assert all(isinstance(twin.get_submodule(each), SplitC2f) for each in names)
    x = torch.rand(2, 3, 64, 64)
    for training in (True, False):
        one, two = (net.train(training)(x) for net in (network, twin))
        assert torch.equal(one["scores"], two["scores"]) and torch.equal(one["boxes"], two["boxes"])
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in twin.parameters())
    norms = [m.running_var for m in twin.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sum(map(len, norms)) == sum(
        len(m.running_var) for m in network.modules() if isinstance(m, nn.BatchNorm2d)
    )


def test_other_layers_stay():
    net = nn.Sequential(nn.Conv2d(1, 2, 1))
    assert split(net) == [] and isinstance(net[0], nn.Conv2d)
