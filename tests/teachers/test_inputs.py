"""A teacher is called as the student was: all arguments, chunked, whatever collections hold them."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from lkd.taps import Call
from lkd.teachers import EMATeacher, Ensemble, Teacher
from lkd.teachers.inputs import device_of

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(7, 5, 4, generator=GENERATOR)
MASK = torch.rand(7, 5, generator=GENERATOR) > 0.3


class Masked(nn.Module):
    """Two inputs, options, and a table that every sample shares."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(4, 3)

    def forward(self, tokens, attention_mask=None, *, table=None, scale=1.0, options=(), flag=True):
        mask = torch.ones(tokens.shape[:2]) if attention_mask is None else attention_mask
        out = self.head((tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)) * scale
        if table is not None:
            out = out + table.sum(0)
        for option in options:
            out = out + option["bias"]
        return out if flag else -out


@dataclass(frozen=True)
class Options:
    bias: torch.Tensor
    name: str = "a"

    def __getitem__(self, key):
        return getattr(self, key)


CALLS = {
    "positional": Call((X, MASK), {}),
    "keywords": Call((), {"tokens": X, "attention_mask": MASK}),
    "none and scalars": Call((X, None), {"scale": torch.tensor(2.0), "flag": False}),
    "a table that is no batch": Call((X,), {"attention_mask": MASK, "table": torch.ones(2, 3)}),
    "nested": Call((X, MASK), {"options": ({"bias": torch.randn(7, 3)}, {"bias": torch.randn(1, 3)})}),
    "a frozen dataclass": Call((X, MASK), {"options": [Options(torch.randn(7, 3))]}),
    "of length one first": Call((), {"table": torch.ones(1, 3), "tokens": X}),
}


@pytest.mark.parametrize("batch_size", [None, 3, 1])
@pytest.mark.parametrize("name", CALLS)
def test_a_teacher_is_called_with_all_arguments(name, batch_size):
    call, model = CALLS[name], Masked()
    expected = model(*call.args, **call.kwargs).detach()
    for teacher in (Teacher(model, batch_size=batch_size), EMATeacher(model, batch_size=batch_size)):
        torch.testing.assert_close(teacher(call), expected)
        tapped = teacher.tapped(call, ["", "head"])
        torch.testing.assert_close(tapped[""], expected)
        assert tapped["head"].shape == (7, 3)
    ensemble = Ensemble([Teacher(model), Teacher(model, batch_size=batch_size)])
    torch.testing.assert_close(ensemble(call), torch.stack([expected, expected], 1))


def test_the_batch_is_cut_and_nothing_else():
    sizes = []

    def forward(x, table, count):
        sizes.append((len(x), len(table), count))
        return x

    Teacher(forward, batch_size=3)(Call((X, torch.ones(2, 3), 5), {}))
    assert sizes == [(3, 2, 5), (3, 2, 5), (1, 2, 5)]


def test_lists_and_dicts_are_an_input_of_their_own():
    class Both(nn.Module):
        def forward(self, batch):
            return batch["a"] + batch["more"][0]

    batch = {"a": X[:, 0], "more": (X[:, 1],)}
    for batch_size in (None, 2):
        torch.testing.assert_close(Teacher(Both(), batch_size=batch_size)(batch), X[:, 0] + X[:, 1])


class Graph:
    """What lkd knows nothing of; `device` as of its tensors, which it keeps to itself."""

    __slots__ = ("moves", "nodes")

    def __init__(self, nodes):
        self.nodes, self.moves = nodes, []

    def to(self, device):
        self.moves.append(torch.device(device))
        return self


def test_objects_are_passed_whole_and_moved_by_their_own_method():
    def forward(graph, edges=None):
        return graph.nodes.sum(1)

    graph = Graph(X)
    torch.testing.assert_close(Teacher(forward, batch_size=2)(graph), X.sum(1))
    assert graph.moves == [torch.device("cpu")]
    with pytest.raises(ValueError, match=r"batch_size=2: the teacher is given a Graph, which cannot be cut"):
        Teacher(forward, batch_size=2)(Call((graph,), {"edges": torch.zeros(9, 2)}))
    packed = pack_sequence([torch.ones(3, 4), torch.ones(2, 4)])
    with pytest.raises(ValueError, match="given a PackedSequence, which cannot be cut"):
        Teacher(lambda x: x, batch_size=2)(packed)
    recurrent = nn.LSTM(4, 3)
    output, (hidden, _) = Teacher(recurrent)(packed)
    torch.testing.assert_close(hidden, recurrent(packed)[1][0].detach())
    assert not output.data.requires_grad


class Data:
    """As of PyTorch Geometric: the tensors are in a store inside."""

    def __init__(self, device):
        self.store = {"x": torch.zeros(3, 2, device=device)}


class OnDevice:
    """As of DGL: it says where it is."""

    device = torch.device("meta")


def test_the_device_is_that_of_the_first_tensor_that_is_not_on_the_cpu_or_of_an_object():
    meta, cpu = torch.zeros(3, device="meta"), torch.zeros(3)
    for args in ((meta,), (None, {"x": (3, meta)}), (cpu, meta), (Data("meta"),), (1, OnDevice())):
        assert device_of(Call(args, {})) == torch.device("meta")
    assert device_of(Call((), {"x": cpu})) == torch.device("cpu")
    assert device_of(Call((3, None, "a", Graph(meta)), {})) is None


@pytest.mark.parametrize(
    ("model", "call", "words"),
    [
        (
            nn.Linear(4, 3),
            Call((X, MASK), {}),
            r"Linear cannot be called with \(7, 5, 4\), \(7, 5\).*too many positional",
        ),
        (
            nn.Linear(4, 3),
            Call((X,), {"attention_mask": MASK}),
            r"attention_mask=\(7, 5\).*unexpected keyword",
        ),
        (Masked(), Call((), {"attention_mask": MASK}), r"missing a required argument: 'tokens'"),
        (lambda x: x, Call((X, MASK), {}), r"<lambda> cannot be called with .*too many positional"),
        (Masked().forward, Call((X,), {"mask": MASK}), r"Masked.forward cannot be called with .*'mask'"),
    ],
)
def test_a_signature_that_does_not_fit_names_the_way_out(model, call, words):
    with pytest.raises(TypeError, match=words + r".*; name what of the batch.*input_key='...' \(several"):
        Teacher(model)(call)


def test_a_type_error_of_its_own_is_told_as_such():
    with pytest.raises(
        RuntimeError, match=r"teacher Linear failed on an input of shape \{'x': \(7, 5, 4\)\}: .*dict"
    ):
        Teacher(nn.Linear(4, 3))({"x": X})
    with pytest.raises(RuntimeError, match=r"failed on an input of shape \{'x': \(7, 5, 4\)\}: 'images'"):
        Teacher(lambda batch: batch["images"])({"x": X})
