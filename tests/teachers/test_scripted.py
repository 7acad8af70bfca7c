"""Scripted, traced, exported and compiled modules as teachers."""

import warnings

import pytest
import torch
from torch import nn

from lkd.teachers import Teacher

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and people have files of it
        yield


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))


def test_a_scripted_module_is_frozen_and_in_eval_mode():
    source = net()
    scripted = torch.jit.script(source)
    teacher = Teacher(scripted, batch_size=4)
    torch.testing.assert_close(teacher(X), source.eval()(X).detach())
    assert not any(p.requires_grad for p in scripted.parameters()) and list(teacher.parameters())
    with pytest.raises(ValueError, match=r"teacher_layer='module.0' is scripted.* teacher_layer=''"):
        teacher.tapped(X, ["module.0"])
    with pytest.raises(
        RuntimeError, match=r"teacher Sequential failed on an input of shape \(4, 5\): mat1 and mat2"
    ) as caught:
        teacher(torch.zeros(6, 5))
    assert "\n" not in str(caught.value)


def test_tracing_fixes_the_mode():
    source = net().eval()
    torch.testing.assert_close(Teacher(torch.jit.trace(source, X))(X), source(X).detach())
    for trained in (net(), nn.Sequential(nn.Linear(4, 4), nn.Dropout())):
        with pytest.raises(ValueError, match=r"traced in training mode.* trace it again after model.eval"):
            Teacher(torch.jit.trace(trained.train(), X, check_trace=False))


def test_an_exported_module_has_a_fixed_mode():
    exported = torch.export.export(net().eval(), (X,)).module()
    with pytest.raises(ValueError, match=r"made by torch.export, which fixes whether it trains"):
        Teacher(exported)


def test_a_compiled_module_teaches():
    source = net()
    teacher = Teacher(torch.compile(source, backend="eager"))
    torch.testing.assert_close(teacher(X), source(X).detach())
    assert not source.training
