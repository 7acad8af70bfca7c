"""The layer that stands for a forward which the step does not call."""

import pytest
import torch.nn.functional as F
from torch import nn

from lkd.callbacks import Distillation, LogitDistillation
from lkd.distillation import Distiller
from lkd.losses import KD, FitNets
from lkd.teachers import Teacher
from tests.callbacks.plain import Plain, digits, quick_trainer


class Steps(Plain):
    """Whose step calls its layers."""

    def __init__(self, act, use):
        super().__init__()
        self.act, self.use = act, use

    def training_step(self, batch, batch_idx):
        x, y = batch
        return self.use(self, self.net(x), y)


def fit(act, use, **kwargs):
    callback = LogitDistillation(Teacher(Plain()), **kwargs)
    quick_trainer(callbacks=[callback], limit_train_batches=2).fit(Steps(act, use), digits())


@pytest.mark.parametrize(
    "act", [nn.Softplus(), nn.ReLU(inplace=True), nn.Sequential(nn.Tanh(), nn.Softplus()), nn.Dropout(0.5)]
)
def test_a_layer_without_weights_behind_it_makes_the_guess_unsure(act):
    with pytest.raises(ValueError, match=r"student_layer=''.*'net'.*'act.*student_layer='net'"):
        fit(act, lambda self, out, y: F.cross_entropy(self.act(out), y))


class Entropy(nn.Module):
    def forward(self, logits):
        return -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()


@pytest.mark.parametrize(
    ("act", "use"),
    [
        (nn.CrossEntropyLoss(), lambda self, out, y: self.act(out, y)),
        (nn.LogSoftmax(1), lambda self, out, y: F.nll_loss(self.act(out), y)),
        (nn.Identity(), lambda self, out, y: F.cross_entropy(self.act(out), y)),
        (Entropy(), lambda self, out, y: F.cross_entropy(out, y) + self.act(out)),
        (
            nn.Softmax(1),
            lambda self, out, y: (self.act(out).amax(), F.cross_entropy(out, y))[1],
        ),  # on the side
    ],
)
def test_what_only_makes_the_loss_or_a_metric_is_none(act, use):
    fit(act, use)


@pytest.mark.parametrize("layer", ["net", "act"])
def test_the_named_one_is_compared(layer):
    distiller = Distiller(Teacher(Plain()), [KD(student_layer=layer)], alpha=1.0)
    module = Steps(nn.Softplus(), lambda self, out, y: F.cross_entropy(self.act(out), y))
    module.log = lambda *_, **__: None
    distiller.attach(module, next(iter(digits())))
    assert module.training_step(next(iter(digits())), 0).isfinite()


class Wanders(Plain):
    """Calls another layer from its second step on."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.net[1:](x.flatten(1)) if batch_idx else self.net(x), y)


def test_named_layers_may_run_on_another_way_than_the_first():
    term = FitNets(student_layer="net.4", teacher_layer="net.4")
    callback = Distillation(Teacher(Plain()), [term], alpha=1.0, student_input="net.1", input_key=0)
    trainer = quick_trainer(callbacks=[callback])
    trainer.fit(Wanders(), digits())
    assert trainer.global_step == 4


@pytest.mark.parametrize(
    ("layer", "argument"), [("", "student_input='': layer 'net'"), ("net.4", "student_input='': layer 'net'")]
)
def test_what_stands_for_the_forward_stays_the_same(layer, argument):
    callback = Distillation(Teacher(Plain()), [KD(student_layer=layer)], alpha=1.0)
    with pytest.raises(
        ValueError, match=rf"{argument}, which an earlier step has called for that, did not run"
    ):
        quick_trainer(callbacks=[callback]).fit(Wanders(), digits())
