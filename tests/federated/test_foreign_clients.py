"""Modules of other people as clients: made in setup, holding resources and generators, compiled."""

import random
import threading

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

from lkd.federated import MOON, FedAvg, FedDF, Federation, FedNTD, LocalTraining
from lkd.shown import shown

from .knowledge.public import Speaking, federate
from .test_rounds import loader, samples, trainer


class Foreign(LightningModule):
    """Anybody's classifier over samples of three numbers."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Made(Foreign):
    """Makes its layers late, and anew whenever it is asked."""

    def __init__(self):
        LightningModule.__init__(self)

    def _make(self):
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


class InSetup(Made):
    def setup(self, stage):
        self._make()


class InConfigure(Made):
    def configure_model(self):
        self._make()


class Written(Foreign):
    """What the others make, made at once."""

    def __init__(self):
        super().__init__()
        Made._make(self)


def weights(make, **kwargs):
    federation = Federation(make(), seed=3, **kwargs)
    trainer(2).fit(federation, loader(samples()))
    assert not [record.error for record in federation.records if record.error]
    return federation.state_dict()


@pytest.mark.parametrize("late", [InSetup, InConfigure])
@pytest.mark.parametrize("other", [False, True])
def test_layers_that_are_made_late(late, other):
    def kwargs(make):
        return {"other_models": [make()], "shared_layers": ["net.0"]} if other else {}

    found, expected = weights(late, **kwargs(late)), weights(Written, **kwargs(Written))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_layers_that_are_made_at_the_server_alone():
    class Once(Made):
        made = False

        def setup(self, stage):
            if not Once.made:
                self._make()
                Once.made = True

    federation = Federation(Once())
    federation.architectures  # noqa: B018  # as a callback may ask, before setup
    with pytest.raises(ValueError, match=r"Once\.setup made net\.0\.weight in the module at the server"):
        trainer(1).fit(federation, loader(samples()))


def test_a_lazy_layer():
    class Lazy(Foreign):
        def __init__(self):
            super().__init__()
            self.net = nn.LazyLinear(2)

    with pytest.raises(ValueError, match=r"Lazy has a lazy layer, net\.weight, .* run a batch through"):
        trainer(1).fit(Federation(Lazy()), loader(samples()))


class Drawing(Foreign):
    """Draws from generators of its own, and keeps a lock and a function over itself."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.net = nn.Linear(3, 2)
        self.lock = threading.Lock()
        self.drawn = [torch.Generator(), np.random.default_rng(0), np.random.RandomState(0), random.Random(0)]
        self.through = lambda x: self.net(x)

    def forward(self, x):
        one, two, three, four = self.drawn
        with self.lock:
            scale = 1 + torch.rand(1, generator=one) + two.random() + three.rand() + four.random()
        return scale * self.through(x)


def test_draws_of_a_client_are_its_own():
    """A client's round is the same whoever worked before it, whatever generator its module holds."""

    def last(cohort):
        federation = Federation(Drawing(), local=LocalTraining(epochs=1), seed=3)
        trainer(1).fit(federation, loader(cohort))
        assert not torch.equal(federation.model.net.weight, Drawing().net.weight)  # the copy's weights train
        (state,) = [m for m in federation.students]
        return state.net.weight.clone()

    everyone = samples()
    assert torch.equal(last(everyone), last(everyone[-1:]))


@pytest.mark.parametrize("algorithm", [MOON("net"), FedNTD(beta=0.0), FedAvg()])
def test_algorithms_that_keep_a_second_copy(algorithm):
    module = Foreign()
    module.through = lambda x: module.net(x)
    federation = Federation(module, algorithm)
    trainer(2).fit(federation, loader(samples()))
    assert not [record.error for record in federation.records if record.error]


def test_feddf_copies_the_servers_models_the_same_way():
    module = Speaking()
    module.lock = threading.Lock()
    federation = federate(FedDF(steps=2, batch_size=5), 1, module)
    assert not [record.error for record in federation.records if record.error]


@pytest.mark.parametrize("others", [False, True])
def test_a_compiled_client_is_refused_and_a_compiled_network_is_not(others):
    compiled = torch.compile(Foreign(), backend="eager")
    given = {"model": Foreign(), "other_models": [compiled]} if others else {"model": compiled}
    with pytest.raises(
        TypeError, match=r"=torch.compile\(Foreign\(...\)\) must be .* compile its network"
    ) as e:
        Federation(**given)
    assert "\n" not in str(e.value)
    module = Foreign()
    module.net = torch.compile(module.net, backend="eager")
    trainer(1).fit(Federation(module), loader(samples()))


def test_what_cannot_be_copied_speaks_before_training():
    module = Foreign()
    module.stream = (k for k in range(3))
    with pytest.raises(ValueError, match=r"other_models\[0\]: Foreign\.stream is a generator"):
        trainer(1).fit(Federation(Foreign(), other_models=[module]), loader(samples()))


def test_no_whole_object_in_a_message():
    assert shown([nn.Linear(2, 2)]) == "list(...)" and shown(3.5) == "3.5"
    with pytest.raises(TypeError, match=r"^model=Linear\(\.\.\.\) must be a LightningModule"):
        Federation(nn.Linear(2, 2))
