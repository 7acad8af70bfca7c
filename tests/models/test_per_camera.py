"""Routing of images to the copies of their cameras."""

import pytest
import torch
from torch import nn

from lkd.models import PerCamera


class Nested(nn.Module):
    """Outputs nested like those of a dense detector; counts its calls."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return {"scores": x * self.scale, "feats": [x * self.scale + 1, x], "anchors": torch.arange(5.0)}


def make():
    network = PerCamera(Nested(), ["C1", "C2", "C3"])
    for value, name in enumerate(["C1", "C2", "C3"], start=1):
        network.copies[name].scale.data.fill_(float(value))
    return network


def test_mixed_batch_comes_back_in_order():
    network = make()
    x = torch.arange(10.0).view(5, 2)
    out = network(x, ["C3", "C1", "C3", "C2", "C1"])
    scale = torch.tensor([3.0, 1.0, 3.0, 2.0, 1.0]).unsqueeze(1)
    torch.testing.assert_close(out["scores"], x * scale)
    torch.testing.assert_close(out["feats"][0], x * scale + 1)
    torch.testing.assert_close(out["feats"][1], x)
    assert out["anchors"].tolist() == [0, 1, 2, 3, 4]  # shared, not concatenated


def test_gradient_reaches_only_the_cameras_in_the_batch():
    network = make()
    network(torch.ones(2, 2), ["C1", "C3"])["scores"].sum().backward()
    assert network.copies["C1"].scale.grad.item() == 2
    assert network.copies["C2"].scale.grad is None


def test_batch_of_one_camera_is_not_split():
    network = make()
    network(torch.ones(4, 2), ["C2"] * 4)
    assert [copy.calls for copy in network.copies.values()] == [0, 1, 0]


def test_copies_are_independent_and_named_in_the_state():
    network = make()
    assert sorted(network.state_dict()) == ["copies.C1.scale", "copies.C2.scale", "copies.C3.scale"]
    assert len({id(p) for p in network.parameters()}) == 3


def test_one_camera_needs_no_names():
    network = PerCamera(nn.Identity(), ["only"])
    assert network(torch.ones(2, 1)).shape == (2, 1)


@pytest.mark.parametrize(
    ("cameras", "message"),
    [(["C1", "C9"], "no network for C9"), (["C1"], "each of the 2"), (None, "each of the 2")],
)
def test_bad_names_in_a_batch(cameras, message):
    with pytest.raises(ValueError, match=message):
        make()(torch.ones(2, 2), cameras)


@pytest.mark.parametrize("cameras", [[], ["a", "a"], ["a.b"], [""], ["keys"]])
def test_bad_camera_names(cameras):
    with pytest.raises(ValueError, match="cameras"):
        PerCamera(nn.Identity(), cameras)
