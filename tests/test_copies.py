"""Copies of modules that `copy.deepcopy` fails on, or leaves with parts of the original."""

import io
import queue
import threading
import weakref

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from lkd.copies import copied, held_by
from lkd.models import PerCamera
from lkd.teachers import EMATeacher


class Net(nn.Module):
    """A layer, and what a test adds."""

    def __init__(self, add=lambda net: None):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        add(self)

    def forward(self, x):
        return self.layer(x)


def put(name, value):
    return lambda net: setattr(net, name, value)


class Unique:
    """Cannot be copied, as a session of some runtime."""

    def __reduce_ex__(self, protocol):
        raise RuntimeError("not me")


X = torch.ones(1, 3)


def apart(net, twin):
    """Whether a change of the copy's weights changes the copy and nothing else."""
    before = net(X).clone()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(5)
    return torch.equal(net(X), before) and not torch.equal(twin(X), before)


@pytest.mark.parametrize(
    "thing", [threading.Lock(), queue.Queue(), io.StringIO(), open(__file__), nn.functional, Unique()]
)
def test_a_resource_is_shared(thing):
    net = Net(put("thing", thing))
    twin = copied(net, "client")
    assert apart(net, twin)
    assert twin.thing is thing or isinstance(thing, io.StringIO)  # which copy.deepcopy can copy


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (put("stream", (k for k in range(3))), r"client: Net\.stream is a generator.*on_train_start"),
        (
            lambda n: put("scaled", n.layer.weight * 2)(n),
            r"Net\.scaled is a Tensor computed from others.*buffer",
        ),
        (lambda n: put("cache", {"h": [n.layer.weight * 2]})(n), r"Net\.cache\.h\.0 is a Tensor computed"),
        (
            lambda n: put("fn", torch.compile(n.forward, backend="eager"))(n),
            r"Net\.fn is torch.compile of a method",
        ),
        (lambda n: put("two", (lambda x: n.layer(x),))(n), r"Net\.two\.0, in a tuple"),
    ],
)
def test_what_cannot_be_copied_is_named(add, message):
    with pytest.raises(ValueError, match=message) as found:
        copied(Net(add), "client")
    assert "Linear(" not in str(found.value)


class Bank(Unique):
    def __init__(self):
        self.rows = torch.zeros(2)


def test_state_in_an_object_that_cannot_be_copied_is_never_shared():
    with pytest.raises(ValueError, match=r"Net\.bank is a Bank, which cannot be copied"):
        copied(Net(put("bank", Bank())), "client")


def test_functions_and_references_mean_the_copy():
    net = Net()
    count = []
    net.act = lambda x, scale=1.0: scale * net.layer(x)
    net.other = lambda x, layer=net.layer: layer(x)
    net.me, net.__dict__["near"] = weakref.ref(net), weakref.proxy(net)
    net.seen = []
    net.layer.register_forward_hook(lambda *given: net.seen.append(1) or count.append(1))
    twin = copied(net, "client")
    assert apart(net, twin)
    net.seen.clear(), twin.seen.clear(), count.clear()
    assert torch.equal(twin.act(X, scale=2.0), 2 * twin(X)) and torch.equal(twin.other(X), twin(X))
    assert len(twin.seen) == 4 and not net.seen and len(count) == 4  # what is not the module's stays one
    assert twin.me() is twin and twin.near.layer is twin.layer and net.near.layer is net.layer


def test_a_function_that_closes_over_itself_and_one_over_nothing():
    def again(n):
        return again(n - 1) if n else net.layer.weight.sum()

    net = Net()
    net.again, net.plain = again, torch.relu
    twin = copied(net, "client")
    with torch.no_grad():
        twin.layer.weight.fill_(1)
    assert net.again(0) != 6 and twin.again(0) == 6 and twin.plain is torch.relu


@pytest.mark.parametrize(
    "change",
    [
        lambda net: prune.l1_unstructured(net.layer, "weight", 0.5),
        lambda net: nn.utils.weight_norm(net.layer),
        lambda net: nn.utils.spectral_norm(net.layer),
        lambda net: nn.utils.parametrizations.weight_norm(net.layer),
        lambda net: put("layer", torch.compile(net.layer, backend="eager"))(net),
        lambda net: net.layer.compile(backend="eager"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_that_hooks_make_and_compiled_layers(change):
    net = Net(change)
    net(X)
    twin = copied(net, "client")
    assert torch.allclose(net.eval()(X), twin.eval()(X)) and apart(net, twin)


def test_what_a_module_holds():
    net = Net(put("things", {"a": [1, torch.Generator()]}))
    paths = {held.path for held in held_by(net)}
    assert {"layer.weight", "things.a.0", "things.a.1"} <= paths


def test_teachers_and_cameras_copy_the_same_way():
    net = Net(put("lock", threading.Lock()))
    net.act = lambda x: net.layer(x)
    assert EMATeacher(net).loaded.lock is net.lock
    cameras = PerCamera(net, ["a", "b"])
    assert torch.equal(cameras.copies["a"].act(X), cameras.copies["a"](X))
    for make, argument in ((EMATeacher, "student"), (lambda n: PerCamera(n, ["a"]), "network")):
        with pytest.raises(ValueError, match=rf"{argument}: Net\.scaled is a Tensor"):
            make(Net(lambda n: put("scaled", n.layer.weight * 2)(n)))
