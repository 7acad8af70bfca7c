"""What changes a teacher's fingerprint, and what does not."""

import copy
import dataclasses
import enum
import functools

import numpy as np
import pytest
import torch
from torch import nn

from lkd.teachers import Teacher
from lkd.teachers.fingerprint import Fingerprint

FACTOR = 2.0


def twice(x):
    return FACTOR * x


class Net(nn.Module):
    width = 3

    def __init__(self):
        super().__init__()
        self.body, self.scale, self.names = nn.Linear(2, 3), 1.0, ["a", "b"]
        self.statistics = torch.ones(3)  # no buffer
        self.register_buffer("hidden", torch.zeros(1), persistent=False)
        self.shape = torch.Size([1, 2])

    def forward(self, x):
        return twice(self.body(x)) * self.scale


def mark(model):
    return Fingerprint(Teacher(model).loaded).now()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def test_copies_devices_and_modes_are_the_same(net):
    other = copy.deepcopy(net).train()
    other.shape = torch.Size([9, 9])  # of the last input, in all likelihood
    other.load_state_dict(net.state_dict())
    assert mark(other) == mark(net)


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.body.weight.data.add_(1e-6),
        lambda net: net.hidden.add_(1),
        lambda net: setattr(net, "scale", 1.5),
        lambda net: net.names.append("c"),
        lambda net: net.statistics.mul_(2),
        lambda net: net.half(),
        lambda net: setattr(net, "body", nn.Sequential(net.body)),
    ],
)
def test_weights_buffers_settings_types_and_structure_change_it(net, change):
    before = mark(net)
    change(net)
    assert mark(net) != before


def test_the_code_changes_it_and_that_of_a_function_of_the_same_file(net, monkeypatch):
    marks = [mark(net)]
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    marks.append(mark(net))
    monkeypatch.setitem(globals(), "twice", lambda x: x + x)
    marks.append(mark(net))
    monkeypatch.setattr(Net, "width", 4)
    marks.append(mark(net))
    monkeypatch.setattr(Net, "forward", lambda self, x: self.body(x))
    marks.append(mark(net))
    assert len(set(marks)) == 5


def test_callables(net):
    def scaled(factor):
        return lambda x: net(x) * factor

    marks = [
        mark(scaled(1.0)),
        mark(scaled(2.0)),
        mark(lambda x: net(x) - 1),
        mark(net.forward),
        mark(functools.partial(lambda model, x, k: model(x) * k, net, k=1)),
        mark(functools.partial(lambda model, x, k: model(x) * k, net, k=2)),
    ]
    assert len(set(marks)) == 6 and mark(scaled(1.0)) == marks[0]


def test_an_object_of_which_little_can_be_told_is_said(net):
    class Engine:
        def __init__(self):
            self.net = net

        def __call__(self, x):
            return self.net(x)

    with pytest.warns(
        UserWarning, match="the teacher's callable holds a Engine, in which a change may go unseen"
    ):
        mark(Engine())


def test_weights_are_read_again_only_after_a_change(net, monkeypatch):
    watched, read = Fingerprint(net), []
    monkeypatch.setattr(watched, "_read", lambda: read.append(1) or str(len(read)))
    watched.now()
    watched._next = float("inf")
    assert watched.now() == "1"
    with torch.no_grad():
        net.body.bias.add_(1)
    assert watched.now() == "2"
    watched._next = 0.0  # it is time to look for what is not counted
    watched.now()
    assert len(read) == 3


def decorated(factor):
    class Scaled(nn.Linear):
        @torch.no_grad()  # the class holds the wrapper, whose code is torch's
        def forward(self, x):
            return super().forward(x) * factor

    torch.manual_seed(0)
    return Scaled(1, 1)


def test_the_code_and_the_numbers_behind_a_decorator_are_seen():
    assert mark(decorated(2.0)) == mark(decorated(2.0)) != mark(decorated(3.0))


def twice_of(number):
    return lambda x: number * x


@dataclasses.dataclass
class Limits:
    low: float


class Kind(enum.Enum):
    A, B = 1, 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({1, 2}, {1, 3}),
        (np.array([1.0, 2.0]), np.array([1.0, 3.0])),
        (np.float32(1), np.float32(2)),
        (Limits(0.1), Limits(0.2)),
        (Kind.A, Kind.B),
        ([{"keep": {3}}], [{"keep": {4}}]),
        (lambda x: x, lambda x: x + 1),
        (twice_of(2), twice_of(3)),
    ],
)
def test_settings_of_all_kinds_are_seen(net, one, other):
    marks = [mark(net)]
    for value in (one, other, one):
        net.setting = value
        marks.append(mark(net))
    assert len(set(marks)) == 3 and marks[1] == marks[3]


def test_another_number_is_seen_at_once_and_without_reading_everything_when_there_is_none(net, monkeypatch):
    watched = Fingerprint(net)
    monkeypatch.setattr(watched, "_next", float("inf"))
    first = watched.now()
    monkeypatch.setattr(watched, "_next", float("inf"))  # no time to look again
    assert watched.now() == first and watched.reads == 1
    net.scale = 1.5
    second = watched.now()
    watched._next = float("inf")
    net.added = 3
    assert len({first, second, watched.now()}) == 3 and watched.reads == 3


class Config:
    """A user's settings, which know whose they are and count."""

    factor = 1.0

    def __init__(self, scale=1.0, owner=None):
        self.scale, self.owner, self.calls, self.inner = scale, owner, 0, []

    def apply(self, x):
        return x * self.scale


@pytest.mark.parametrize(
    "change",
    [
        lambda config: setattr(config, "scale", 2.0),
        lambda config: setattr(config.inner[0], "scale", 2.0),
        lambda config: setattr(config.inner[1]["third"], "scale", 2.0),
        lambda config: setattr(Config, "factor", 2.0),
        lambda config: setattr(Config, "apply", lambda self, x: x + self.scale),
    ],
)
def test_settings_in_objects_that_a_module_holds_are_seen(net, change, monkeypatch):
    for name in ("factor", "apply"):
        monkeypatch.setattr(Config, name, vars(Config)[name])  # put back afterwards
    net.body.config = Config()
    net.body.config.inner = [Config(owner=net.body.config), {"third": Config(owner=net)}]
    before = mark(net)
    assert mark(copy.deepcopy(net)) == before
    change(net.body.config)
    assert mark(net) != before


def test_a_number_in_an_object_is_seen_at_once_and_what_answering_changes_in_it_is_not(net, monkeypatch):
    net.config, net.history = Config(), []
    watched = Fingerprint(net)
    watched.moving = {".config.calls", ".history"}
    marks = []
    for change in (
        lambda: None,
        lambda: setattr(net.config, "calls", 7),
        lambda: net.history.append(Config()),
    ):
        change()
        marks.append(watched.now())
        watched._next = float("inf")  # no time to look again
    assert watched.reads == 1 and len(set(marks)) == 1
    watched.forget()
    assert watched.now() == marks[0]
    watched._next = float("inf")
    net.config.scale = 3.0
    assert watched.now() != marks[0] and watched.reads == 3


def test_a_data_set_in_a_module_is_not_walked_through(net):
    net.config = Config()
    net.config.inner = [Config() for _ in range(1001)]
    before = mark(net)
    net.config.inner[-1].scale = 2.0
    assert mark(net) == before


def test_what_holds_itself_is_told_all_the_same(net):
    net.itself, net.other = [1], {}
    net.itself.append(net.itself)
    net.other["f"] = (lambda other: lambda: other)(net.other)
    before = mark(net)
    net.itself[0] = 2
    assert mark(net) != before
