"""The teacher is given what the student's forward got, all of it; a teacher equal to the student has nothing to teach."""

import copy

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import DataLoader

from lkd.callbacks import Distillation, LogitDistillation
from lkd.losses import KD
from lkd.teachers import Teacher
from tests.callbacks.plain import quick_trainer, seeded


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 16), nn.Linear(16, 3)

    def forward(self, input_ids, attention_mask=None):
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return self.head((self.embed(input_ids) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


class TwoViews(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(6, 3), nn.Linear(4, 3)

    def forward(self, left, right, scale=1.0):
        return self.left(left) + scale * self.right(right)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x, state):
        return self.head(self.cell(x, state)[0][:, -1])


class Both(nn.Module):
    """Gives logits and features."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x):
        features = self.first(x)
        return self.second(features), features


class Graph:
    """What graph libraries hand over: an object with tensors inside."""

    def __init__(self, x, edges):
        self.x, self.edges = x, edges

    def to(self, device):
        return self


class GraphNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, graph):
        return self.head(
            graph.x + torch.zeros_like(graph.x).index_add(0, graph.edges[1], graph.x[graph.edges[0]])
        )


class Student(LightningModule):
    """Its step calls `self(...)` with whatever `call` makes of a batch."""

    def __init__(self, net, call):
        super().__init__()
        self.net, self.call = net, call

    def forward(self, *args, **kwargs):
        return self.net(*args, **kwargs)

    def training_step(self, batch, batch_idx):
        logits = self.call(self, batch)
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fixed(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape) + shape[-1]))


MASK = (torch.arange(10)[None] < torch.tensor([[2], [4], [7], [9]])).long()
IDS = torch.arange(40).reshape(4, 10) % 19 + 1
TEXT = {"input_ids": IDS, "attention_mask": MASK, "labels": torch.arange(4) % 3}
VIEWS = (torch.arange(4) % 3, fixed(4, 6), fixed(4, 4))  # labels first
STATE = (fixed(1, 4, 8), fixed(1, 4, 8))


@pytest.mark.parametrize(
    ("make", "batch", "call"),
    [
        (Text, TEXT, lambda self, b: self(b["input_ids"], b["attention_mask"])),
        (Text, TEXT, lambda self, b: self(input_ids=b["input_ids"], attention_mask=b["attention_mask"])),
        (Text, TEXT, lambda self, b: self(**{k: v for k, v in b.items() if k != "labels"})),
        (TwoViews, VIEWS, lambda self, b: self(b[1], b[2])),
        (TwoViews, VIEWS, lambda self, b: self(b[1], right=b[2], scale=0.5)),
        (TwoViews, VIEWS, lambda self, b: self.net(b[1], b[2], 2.0)),
        (Recurrent, fixed(4, 5, 4), lambda self, b: self(b, STATE)),
        (GraphNet, Graph(fixed(4, 4), torch.tensor([[0, 1], [2, 3]])), lambda self, b: self(b)),
    ],
)
def test_nothing_of_the_call_is_lost(make, batch, call):
    net = seeded(0, make)
    trainer = quick_trainer(callbacks=[LogitDistillation(Teacher(copy.deepcopy(net)))])
    trainer.fit(Student(net, call), DataLoader([batch], batch_size=None, collate_fn=lambda b: b))
    assert trainer.callback_metrics["distillation/kd"] < 1e-6


@pytest.mark.parametrize(
    ("make", "batch", "keys"),
    [
        (Text, TEXT, ["input_ids", "attention_mask"]),
        (Text, TEXT, ["attention_mask", "input_ids"]),  # by name
        (TwoViews, VIEWS, [1, 2]),
        (TwoViews, {"a": VIEWS[1], "b": VIEWS[2]}, ["a", "b"]),  # in this order
    ],
)
def test_several_entries_of_a_batch_by_their_keys_without_labels(make, batch, keys):
    net = seeded(0, make)
    callback = Distillation(
        Teacher(copy.deepcopy(net)), [KD(student_layer="net")], 0.0, "net", input_key=keys
    )
    trainer = quick_trainer(callbacks=[callback])
    trainer.fit(Student(net, None), DataLoader([batch], batch_size=None))
    assert trainer.callback_metrics["distillation/kd"] < 1e-6


@pytest.mark.parametrize(
    ("make", "batch", "words"),
    [
        (
            Both,
            (torch.arange(4), fixed(4, 6)),
            r"the batch begins with integers \(4,\).* labels; .* input_key=1",
        ),
        (
            Both,
            (torch.eye(6)[:4], fixed(4, 6)),
            r"the batch begins with zeros and ones \(4, 6\).* labels; .* input_key=1",
        ),
        (
            TwoViews,
            VIEWS,
            r"TwoViews\.forward takes left, right, and a batch of 3 entries .*such as input_key=\[0, 1\]",
        ),
        (TwoViews, VIEWS[1:], r"TwoViews\.forward takes left, right, .*such as input_key=\[0, 1\]"),
        (
            TwoViews,
            {"left": VIEWS[1]},
            r"TwoViews\.forward takes left, right, and a dict of left .*input_key=\['left'\]",
        ),
        (
            Both,
            {"picture": VIEWS[1]},
            r"input_key=None: .* a dict as batch, name its images, one of \['picture'\]",
        ),
    ],
)
def test_what_is_not_known_without_a_step_is_asked_for(make, batch, words):
    callback = Distillation(Teacher(make()), [KD(student_layer="net")], alpha=0.0, student_input="net")
    with pytest.raises(ValueError, match=words):
        quick_trainer(callbacks=[callback]).fit(Student(make(), None), DataLoader([batch], batch_size=None))


def test_a_teacher_that_cannot_take_the_call_is_named_with_the_way_out():
    batch = VIEWS
    narrow = nn.Sequential(nn.Linear(6, 3))
    student = Student(TwoViews(), lambda self, b: self(b[1], b[2]))
    loader = DataLoader([batch], batch_size=None)
    with pytest.raises((ValueError, TypeError, RuntimeError), match=r"Sequential.*input_key"):
        quick_trainer(callbacks=[LogitDistillation(Teacher(narrow))]).fit(student, loader)
    trainer = quick_trainer(callbacks=[LogitDistillation(Teacher(narrow), input_key=1)])
    trainer.fit(student, loader)
    assert trainer.global_step == 1


def test_a_tuple_is_refused_where_a_tensor_is_meant_and_can_be_indexed():
    student = Student(seeded(0, Both), lambda self, b: self(b)[0])
    loader, teacher = DataLoader([fixed(4, 6)], batch_size=None), seeded(1, Both)
    words = r"student_layer='' gives a tuple of a tensor \(4, 3\), a tensor \(4, 16\), and KD compares tensors: .*':0'"
    with pytest.raises(ValueError, match=words):
        quick_trainer(callbacks=[LogitDistillation(Teacher(teacher))]).fit(student, loader)
    with pytest.raises(ValueError, match=r"teacher_layer='' gives a tuple"):
        quick_trainer(callbacks=[LogitDistillation(Teacher(teacher), student_layer=":0")]).fit(
            student, loader
        )
    trainer = quick_trainer(
        callbacks=[LogitDistillation(Teacher(teacher), student_layer=":0", teacher_layer=":0")]
    )
    trainer.fit(student, loader)
    with torch.no_grad():
        right = KD()(student(fixed(4, 6))[0], teacher(fixed(4, 6))[0])
    assert trainer.callback_metrics["distillation/kd"] == pytest.approx(float(right), rel=1e-5)
