"""A forward on the side leaves no trace in what a module holds."""

import collections
import itertools
import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics import MeanMetric

import lkd.unchanged
from lkd.unchanged import unchanged


class Holds(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Module()
        self.metric = MeanMetric()
        self.inner.value = self.make()

    @staticmethod
    def make():
        return None

    @staticmethod
    def change(value):
        pass


def holds(make, change):
    return type("Holds", (Holds,), {"make": staticmethod(make), "change": staticmethod(change)})()


def added(counts):
    counts["new"] += 1


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda: [[1], {"a": [2]}], lambda v: (v[0].append(3), v[1]["a"].clear())),
        (
            lambda: {"a": {1}, "b": (torch.zeros(2),)},
            lambda v: (v["a"].add(2), v["b"][0].add_(1), v.pop("a")),
        ),
        (
            lambda: collections.deque([[1]], maxlen=2),
            lambda v: (v[0].append(1), v.append([3]), v.append([4])),
        ),
        (lambda: collections.defaultdict(int, a=1), added),
        (lambda: collections.Counter(a=3), added),
        (lambda: torch.zeros(2), lambda v: v.add_(1)),
        (lambda: torch.zeros(4)[::2], lambda v: v.add_(1)),
        (lambda: np.zeros(2), lambda v: v.__iadd__(1)),
        (lambda: np.array([[1], None], dtype=object), lambda v: v.__setitem__(1, 3)),
    ],
)
def test_what_it_holds(make, change):
    module = holds(make, change)
    value = module.inner.value
    with unchanged(module):
        change(value)
        assert repr(value) != repr(make())
        module.inner.value, module.other = "another", 1
    assert module.inner.value is value and repr(value) == repr(make()) and not hasattr(module, "other")


@pytest.mark.parametrize(
    ("make", "draw"),
    [
        (lambda: torch.Generator().manual_seed(0), lambda g: torch.rand(2, generator=g).tolist()),
        (lambda: np.random.default_rng(0), lambda g: g.random(2).tolist()),
        (lambda: np.random.RandomState(0), lambda g: g.rand(2).tolist()),
        (lambda: random.Random(0), lambda g: [g.random(), g.gauss(0, 1)]),
    ],
)
@pytest.mark.parametrize("wrap", [lambda g: g, lambda g: [g]])
def test_generators_of_its_own(make, draw, wrap):
    generator = make()
    module = holds(lambda: wrap(generator), None)
    with unchanged(module):
        first = draw(generator)
    assert draw(generator) == first == draw(make())


def test_metrics_that_count_in_place():
    module = Holds()
    module.metric.update(1.0)
    with unchanged(module):
        module.metric.mean_value += 5
        module.metric.update(7.0)
    assert module.metric.compute() == 1


def test_an_iterator_is_told():
    with (
        pytest.warns(UserWarning, match=r"Module\.value is an iterator"),
        unchanged(holds(itertools.count, None)),
    ):
        pass


def test_what_is_too_large_is_told_if_it_changes(monkeypatch):
    monkeypatch.setattr(lkd.unchanged, "LARGE", 8)
    module = holds(lambda: torch.zeros(4), None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with unchanged(module):
            pass
    with pytest.warns(UserWarning, match=r"changed a tensor \(4,\)"), unchanged(module):
        module.inner.value.add_(1)
