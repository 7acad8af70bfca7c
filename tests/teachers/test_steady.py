"""A teacher that is not frozen after all says so in its first answer, and others are asked once a batch."""

import functools
import warnings

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

from lkd.teachers import Teacher

X = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.norm, self.calls = nn.Linear(8, 3), nn.BatchNorm1d(3), 0
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("cache", torch.zeros(0), persistent=False)

    def forward(self, x):
        self.calls += 1
        return self.norm(self.layer(x))


class Dropping(Net):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.2)


class Switching(Net):
    def forward(self, x):
        self.norm.train()
        return super().forward(x)


class Counting(Net):
    def forward(self, x):
        self.seen += 1
        return super().forward(x)


@pytest.mark.parametrize("make", [Dropping, lambda: Dropping().forward])
def test_a_teacher_that_draws_is_asked_twice_and_warned_of(make):
    teacher = Teacher(make())
    with pytest.warns(
        UserWarning, match=r"the teacher Dropping.* says something else when it is asked the same"
    ):
        teacher(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        teacher(X)  # once


def test_layers_that_a_forward_switches_to_training_and_what_they_learn():
    net = Switching()
    teacher = Teacher(net)
    with pytest.warns(UserWarning) as told:
        teacher(X)
    said = " ".join(str(w.message) for w in told)
    assert "puts BatchNorm1d into training mode" in said and "changes running_mean of BatchNorm1d" in said
    teacher(X)
    assert not net.norm.running_mean.any() and net.norm.num_batches_tracked == 0


def test_buffers_that_a_forward_changes_are_put_back():
    net = Counting()
    teacher = Teacher(net)
    with pytest.warns(UserWarning, match="changes seen of Counting in its forward"):
        teacher(X)
    teacher(X)
    assert net.seen == 0


def test_no_word_and_no_second_question_for_those_that_stand_still():
    class Caching(Net):
        def forward(self, x):
            self.cache = torch.ones(len(x))
            return super().forward(x)

    class Unused(Net):  # asked twice, as what it draws might matter
        def forward(self, x):
            torch.rand(1)
            return super().forward(x)

    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for make, calls in ((Net, 1), (Caching, 1), (Unused, 2)):
            net = make()
            state = torch.get_rng_state()
            Teacher(net, batch_size=16)(X)
            assert net.calls == calls
            if make is not Unused:
                assert torch.equal(state, torch.get_rng_state())
    assert before.shape == state.shape


def test_a_module_without_a_forward_is_refused_at_once():
    class Silent(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(8, 3)

    with pytest.raises(ValueError, match=r"model=Silent\(\.\.\.\) has no forward, .* Teacher\(module\.net\)"):
        Teacher(Silent())


def test_a_module_whose_layers_were_never_made():
    class Late(LightningModule):
        def setup(self, stage):
            self.net = nn.Linear(8, 3)

        def forward(self, x):
            return self.net(x)

    with pytest.raises(
        RuntimeError, match=r"the teacher Late failed .* If its setup\(\) makes its layers, call that"
    ):
        Teacher(Late())(X)
    module = Late()
    module.setup("fit")
    assert Teacher(module)(X).shape == (16, 3)


def test_what_lies_deeper_is_named():
    class Engine:
        def __init__(self):
            self.net = Net()

    class Deep:
        def __init__(self):
            self.engine = Engine()

        @property
        def net(self):
            return self.engine.net

        def __call__(self, x):
            return self.net(x)

    model = Deep()
    with pytest.raises(
        ValueError, match=r"keeps it deeper, name it too: Teacher\(functools\.partial\(lambda net"
    ):
        Teacher(model)(X)
    teacher = Teacher(functools.partial(lambda net, x: model(x), model.net))
    assert teacher(X).shape == (16, 3) and not any(p.requires_grad for p in model.net.parameters())
