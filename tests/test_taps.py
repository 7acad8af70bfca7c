"""Taps tell what layers were given and gave when they ran, whatever the forward makes of it afterwards."""

import pytest
import torch
from torch import nn

from lkd.taps import Taps
from tests.callbacks.plain import seeded


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn, self.relu = nn.BatchNorm1d(3), nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.bn(x))


class Hands(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Module()
        self.inner.forward = lambda x: {"features": x * 2, "more": [x * 3]}
        self.last = nn.Linear(3, 2)

    def forward(self, x):
        found = self.inner(x)
        return self.last(found.pop("features") + found["more"].pop())


def run(net, layer, x, calls=1):
    for _ in range(calls):
        with Taps(net, [layer]) as taps:
            out = net(x)
    return taps, out


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_an_in_place_layer_behind_it_changes_nothing(calls):
    net, x = InPlace(), seeded(0, lambda: torch.randn(8, 3))
    taps, out = run(net, "bn", x, calls)
    value = taps.output("bn")
    assert torch.allclose(value, nn.BatchNorm1d(3)(x), atol=1e-6) and (value < 0).any() and (out >= 0).all()
    value.sum().backward()  # a copy has its graph
    assert net.bn.bias.grad.tolist() == [8, 8, 8]


def test_only_what_changes_is_copied_from_the_second_pass_on():
    net, x = nn.Sequential(nn.Linear(3, 3), InPlace()), torch.randn(8, 3)
    for first in (True, False):
        with Taps(net, ["0", "1.bn"]) as taps:
            net(x)
        kept = {name: bool(ran.gave._copies) for name, ran in taps._ran.items()}
        taps.output(["0", "1.bn"])
        assert kept == {"0": first, "1.bn": True}


def test_a_later_change_is_refused_by_name():
    net, x = InPlace(), torch.randn(8, 3)
    net.relu.inplace = False
    run(net, "bn", x)[0].output("bn")
    net.relu.inplace = True
    with pytest.raises(ValueError, match=r"layer='bn'.*changed in place.*inplace=False"):
        run(net, "bn", x)[0].output("bn")


def test_a_pass_that_broke_off_has_not_seen_what_follows():
    net, x = InPlace(), torch.randn(8, 3)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Taps(net, ["bn"], seen=stop):
        net(x)
    assert (run(net, "bn", x)[0].output("bn") < 0).any()


def test_what_is_taken_out_of_collections_stays():
    x = torch.ones(2, 3)
    taps, _ = run(Hands(), "inner", x)
    assert torch.equal(taps.output("inner:features"), x * 2) and torch.equal(
        taps.output("inner:more:0"), x * 3
    )


@pytest.mark.parametrize(
    "change", [lambda x: x.zero_(), lambda x: x.data.zero_(), lambda x: x.numpy().fill(0)]
)
def test_the_input_is_what_it_was(change):
    class Net(nn.Module):
        def forward(self, x):
            y = x + 1
            change(x)
            return y

    for _ in range(2):
        taps, _ = run(Net(), "", torch.ones(2))
        assert taps.input("").tolist() == [1, 1]


def test_a_layer_that_runs_again_leaves_its_last_call():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU(inplace=True)

        def forward(self, x):
            return self.act(self.act(x) - 1)

    taps, _ = run(Twice(), "act", torch.tensor([0.5, 3.0]))
    assert taps.input("act").tolist() == [-0.5, 2.0] and taps.output("act").tolist() == [0, 2]
