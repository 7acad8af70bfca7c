"""Outputs of chunks are joined to what the whole batch would have given, or refused."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from lkd.taps import Call
from lkd.teachers import Teacher

X = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
State = namedtuple("State", "hidden cell")


class ModelOutput(OrderedDict):
    """As of Hugging Face: entries and attributes are one, and it is made by its fields."""

    def __post_init__(self):
        for name in self.__dataclass_fields__:
            if getattr(self, name) is not None:
                super().__setitem__(name, getattr(self, name))

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        super().__setattr__(key, value)

    def update(self, *args, **kwargs):
        raise Exception("You cannot use ``update`` on a ModelOutput instance.")

    def __reduce__(self):
        return type(self), tuple(getattr(self, name) for name in self.__dataclass_fields__)


@dataclass
class Classified(ModelOutput):
    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple | None = None


@dataclass(frozen=True)
class Frozen:
    logits: torch.Tensor
    anchors: torch.Tensor
    names: tuple = ("a", "b")


KINDS = {
    "model output": lambda x: Classified(logits=x * 2, hidden_states=(x, x[:, :1])),
    "namedtuple": lambda x: State(x, x + 1),
    "nested": lambda x: (x, State(x, {"a": [x, x[:, :2]]}), None, 3),
    "frozen dataclass": lambda x: Frozen(x, torch.arange(3)),
    "structseq": lambda x: torch.max(x, 1),
    "anchors as long as a chunk": lambda x: {"scores": x, "anchors": torch.arange(6.0).view(3, 2)},
}


def same(one, other):
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        torch.testing.assert_close(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            same(one[key], other[key])
            if isinstance(one, ModelOutput):
                same(getattr(one, key), getattr(other, key))
    elif isinstance(one, tuple | list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, Frozen):
        same(vars(one), vars(other))
    else:
        assert one == other


@pytest.mark.parametrize("batch_size", [3, 2, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_collections_survive(kind, batch_size):
    same(Teacher(KINDS[kind], batch_size=batch_size)(X), KINDS[kind](X))


def test_an_entry_of_a_model_output_is_taken_without_the_rest():
    def forward(x):
        return Classified(loss=x.mean(), logits=x)

    teacher = Teacher(forward, batch_size=3)
    torch.testing.assert_close(teacher.tapped(X, [":logits"])[":logits"], X)
    with pytest.raises(
        ValueError, match=r"a tensor \(\) of the teacher's output teacher_layer='' differs.*':logits'"
    ):
        teacher(X)
    with pytest.raises(ValueError, match=r"a Cache of the teacher's output"):
        Teacher(lambda x: (x, Cache()), batch_size=3)(X)
    assert isinstance(Teacher(lambda x: (x, Cache()))(X)[1], Cache)


class Cache:
    """Of keys and values, one for each forward."""


def test_what_is_not_batch_first_is_refused_rather_than_taken_once():
    lstm = nn.LSTM(4, 3, batch_first=True)
    with pytest.raises(ValueError, match=r"a tensor \(1, 3, 3\) .* has no row a sample"):
        Teacher(lstm, batch_size=3)(X[:, None])
    output = Teacher(lambda x: lstm(x)[0], batch_size=3)(X[:, None])
    torch.testing.assert_close(output, lstm(X[:, None])[0].detach())
    state = (torch.zeros(1, 7, 3), torch.zeros(1, 7, 3))
    given, (hidden, _) = Teacher(lstm)(Call((X[:, None], state), {}))
    torch.testing.assert_close(hidden, lstm(X[:, None], state)[1][0].detach())
    torch.testing.assert_close(given, output)


def test_detections_and_boxes_are_one_a_sample_and_levels_are_not():
    def dicts(x):
        return [{"boxes": row[None], "scores": row[:1]} for row in x]

    def boxes(x):
        return [row.expand(i + 1, 4) for i, row in enumerate(x)]

    assert [d["boxes"].tolist() for d in Teacher(dicts, batch_size=3)(X)] == [[r.tolist()] for r in X]
    assert len(Teacher(dicts, batch_size=3).detect(X)) == 7
    assert len(Teacher(boxes, batch_size=3)(X)) == 7
    levels = Teacher(lambda x: [x, x[:, :1], x[:, :2]], batch_size=3)(X[:6])
    assert [level.shape for level in levels] == [(6, 4), (6, 1), (6, 2)]


def test_detections_of_other_images_are_refused():
    one = {"boxes": torch.zeros(1, 4), "scores": torch.ones(1), "labels": torch.zeros(1).long()}
    for model in (lambda x: [one], lambda x: one, lambda x: {"boxes": x}):
        with pytest.raises(TypeError, match=r"gives no detections.*one dict .* for each image"):
            Teacher(model).detect(X)
