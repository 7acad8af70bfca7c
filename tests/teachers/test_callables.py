"""Callables as teachers: the module behind them is a teacher's module like any other, or lkd says that it cannot see it."""

import functools

import pytest
import torch
from torch import nn

from lkd.teachers import Ensemble, Teacher

X = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


class Clip(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual, self.norm, self.drop = nn.Linear(8, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)

    def forward(self, x, text=None):
        return self.encode_image(x)

    def encode_image(self, x, scale=1.0):
        return scale * self.drop(self.norm(self.visual(x)))


class Wrapper:
    """No module, but it has one."""

    def __init__(self, net):
        self.net = net

    def __call__(self, x):
        return self.net.encode_image(x)

    def predict(self, x):
        return self.net.encode_image(x)


def no_grad(net):
    return torch.no_grad()(net.encode_image)


def in_a_list(net):
    several = {"nets": [net]}
    return lambda x: sum(each.encode_image(x) for each in several["nets"])


def by_another_function(net):
    def inner(x):
        return net.encode_image(x)

    return lambda x: inner(x)


NET = Clip()


def names_a_global(x):
    return next(each.encode_image(x) for each in (NET,))


def names_a_function(x):
    return names_a_global(x)


CALLABLES = {
    "bound method": lambda net: net.encode_image,
    "forward": lambda net: net.forward,
    "partial of a method": lambda net: functools.partial(net.encode_image, scale=1.0),
    "partial of a module": lambda net: functools.partial(net, text=None),
    "nested partial": lambda net: functools.partial(functools.partial(net.encode_image), scale=1.0),
    "partial with a module": lambda net: functools.partial(lambda net, x: net.encode_image(x), net),
    "partial with a keyword": lambda net: functools.partial(lambda x, net: net.encode_image(x), net=net),
    "closure": lambda net: lambda x: net.encode_image(x),
    "closure over a method": lambda net: (lambda encode: lambda x: encode(x))(net.encode_image),
    "default": lambda net: lambda x, net=net: net.encode_image(x),
    "decorated": no_grad,
    "in a list": in_a_list,
    "by another function": by_another_function,
    "callable object": Wrapper,
    "method of an object": lambda net: Wrapper(net).predict,
    "closure over an object": lambda net: (lambda wrapper: lambda x: wrapper(x))(Wrapper(net)),
}


@pytest.mark.parametrize("kind", CALLABLES)
def test_the_module_behind_is_frozen_in_eval_mode_and_moves_along(kind):
    net = Clip()
    before = net.norm.running_mean.clone()
    teacher = Teacher(CALLABLES[kind](net))
    torch.testing.assert_close(teacher(X), net.eval().encode_image(X).detach())
    net.train()  # by somebody who shares it
    assert torch.equal(teacher(X), teacher(X)) and torch.equal(before, net.norm.running_mean)
    assert not any(p.requires_grad for p in net.parameters())
    assert {id(p) for p in teacher.parameters()} == {id(p) for p in net.parameters()}
    assert torch.equal(teacher.tapped(X, ["module.visual"])["module.visual"], net.visual(X))
    teacher.double()
    assert net.visual.weight.dtype == torch.float64


@pytest.mark.parametrize("function", [names_a_global, names_a_function])
def test_modules_that_a_function_names(function):
    NET.train().requires_grad_(True)
    teacher = Teacher(function)
    assert not NET.training and not any(p.requires_grad for p in NET.parameters())
    assert torch.equal(teacher(X), teacher(X))


def test_several_modules_and_one_inside_another():
    first, second = Clip(), nn.Linear(3, 3)
    teacher = Teacher(lambda x: second(first.visual(x)) + first.encode_image(x))
    assert set(teacher.loaded.module) == {first, second}
    assert Teacher(functools.partial(lambda a, b, x: b(x), first, first.visual)).loaded.module is first


def test_a_module_that_cannot_be_seen_is_named():
    hidden = {"key": Wrapper(Wrapper(Clip()))}
    teacher = Teacher(lambda x: hidden["key"].net.net.encode_image(x))
    with pytest.raises(
        ValueError, match=r"runs a Linear that lkd cannot see.*give the module itself or its bound"
    ):
        teacher(X)
    hidden["key"].net.net.eval().requires_grad_(False)
    assert teacher(X).shape == (16, 3)  # frozen by its owner
    hidden["key"].net.net.train()
    with pytest.raises(ValueError, match=r"runs a BatchNorm1d that lkd cannot see"):
        teacher(X)


def test_functions_in_the_shape_of_modules_are_no_models():
    net = nn.Linear(8, 3)
    assert torch.allclose(Teacher(lambda x: nn.Softmax(-1)(net(x)))(X).sum(1), torch.ones(16))
    with pytest.raises(ValueError, match=r"runs a Dropout that lkd cannot see"):
        Teacher(lambda x: nn.Dropout()(net(x)))(X)


def test_members_of_an_ensemble_may_be_methods():
    nets = [Clip(), Clip()]
    ensemble = Ensemble([Teacher(net.encode_image) for net in nets])
    expected = torch.stack([net.encode_image(X) for net in nets], 1).detach()
    torch.testing.assert_close(ensemble(X), expected)
    with pytest.raises(TypeError, match="boxes cannot be stacked"):
        ensemble.detect(X)


def test_what_is_no_instance_is_refused():
    with pytest.raises(TypeError, match=r"model=Clip is a class; give an instance of it: Clip\(\.\.\.\)"):
        Teacher(Clip)
    with pytest.raises(TypeError, match="forward is scripted and does not say which module"):
        Teacher(torch.jit.script(nn.Linear(8, 3)).forward)
