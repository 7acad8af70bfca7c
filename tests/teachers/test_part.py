"""`Teacher.part`: a part of the frozen teacher as a function of its input."""

import copy

import pytest
import torch
from torch import nn

from lkd.teachers import Ensemble, Teacher


class Net(nn.Module):
    def __init__(self, inplace=False):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=inplace), nn.Linear(6, 3))
        self.nested = nn.Sequential(nn.Linear(4, 6), nn.Sequential(nn.ReLU(inplace=inplace), nn.Linear(6, 3)))
        self.norm = nn.BatchNorm1d(3)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def scaled(self, x):
        return self.scale * x

    def forward(self, x):
        return self.scaled(self.norm(self.body(x) + self.nested(x)))


def net(**options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(**options)


X = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))


def written_out(model):
    """What the addresses mean."""
    return {
        "body[1:]": lambda x: model.body[2](x.clamp_min(0)),
        "body[2:]": model.body[2],
        "body.2": model.body[2],
        "nested[1:]": lambda x: model.nested[1][1](x.clamp_min(0)),
        "nested.1[1:]": model.nested[1][1],
    }


@pytest.mark.parametrize("address", ["body[1:]", "body[2:]", "body.2", "nested[1:]", "nested.1[1:]"])
def test_addresses_lead_to_the_end_of_a_sequence_or_to_a_submodule(address):
    model = net()
    expected = written_out(copy.deepcopy(model))[address](X)
    torch.testing.assert_close(Teacher(model).part(address)(X), expected)


def test_a_method_and_the_end_of_the_model_itself():
    holder = nn.ModuleDict({"net": net()})
    torch.testing.assert_close(Teacher(holder).part("net.scaled")(X), 2 * X)
    torch.testing.assert_close(Teacher(net()).part("scaled")(X), 2 * X)
    sequence = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
    torch.testing.assert_close(Teacher(sequence).part("[1:]")(X), X.tanh())


def test_gradients_reach_the_input_and_no_weight():
    model = net()
    teacher = Teacher(model)
    x = X.clone().requires_grad_()
    teacher.part("body[1:]")(x).sum().backward()
    expected = model.body[2].weight.sum(0) * (X > 0)
    torch.testing.assert_close(x.grad, expected)
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


def test_batch_statistics_stay():
    model = net()
    part = Teacher(model).part("norm")
    before = model.norm.running_mean.clone()
    torch.testing.assert_close(part(X[:, :3]), X[:, :3] / (1 + 1e-5) ** 0.5)
    assert torch.equal(model.norm.running_mean, before)


@pytest.mark.parametrize(
    ("precision", "autocast", "expected"),
    [(None, False, torch.float32), (None, True, torch.bfloat16), ("32", True, torch.float32), ("bf16", False, torch.bfloat16)],
)  # fmt: skip
def test_precision_is_the_teachers(precision, autocast, expected):
    part = Teacher(net(), precision=precision).part("body.2")
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert part(X).dtype == expected


def test_one_teacher_of_an_ensemble():
    second = net()
    with torch.no_grad():
        second.body[2].weight.zero_()
    ensemble = Ensemble([Teacher(net()), Teacher(second)])
    torch.testing.assert_close(ensemble.part("0.body[2:]")(X), net().body[2](X))
    torch.testing.assert_close(ensemble.part("1.body[2:]")(X), second.body[2].bias.expand(5, 3))
    for address in ("", "2.body[2:]"):
        with pytest.raises(ValueError, match=r"must .*begin with the number of a teacher"):
            ensemble.part(address)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("bodi[1:]", r"rest='bodi' is not a layer of Net; did you mean one of 'body'"),
        ("bodi.predict", r"rest='bodi.predict' is not a layer of Net"),
        ("training", r"rest='training' is not a layer of Net"),
        ("body[3:]", r"rest='body\[3:\]': nothing is left, the sequence has 3 modules"),
        ("norm[1:]", r"rest='norm\[1:\]': only an nn.Sequential can be cut.*'norm' is a BatchNorm1d"),
        ("body[-1:]", r"rest='body\[-1:\]': only an nn.Sequential can be cut"),
    ],
)
def test_what_is_not_there(address, message):
    with pytest.raises(ValueError, match=message):
        Teacher(net()).part(address)


@pytest.mark.parametrize("address", ["body[1:]", "nested[1:]", "body.1"])
def test_an_activation_in_place_cannot_begin_a_part(address):
    teacher = Teacher(net(inplace=True))
    with pytest.raises(ValueError, match="begins with a ReLU that works in place"):
        teacher.part(address)
    teacher.part("body[0:]")  # in the middle it does no harm


def test_an_input_that_does_not_fit():
    with pytest.raises(
        RuntimeError, match=r"rest='body.2' of the teacher failed on an input of shape \(5, 4\)"
    ):
        Teacher(net()).part("body.2")(X[:, :4])


def test_a_part_runs_in_eval_mode_though_nobody_has_asked_the_whole():
    model = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5))
    part = Teacher(model).part("[1:]")
    model.train()  # a user that shares it
    assert torch.equal(part(X), X) and not model.training
