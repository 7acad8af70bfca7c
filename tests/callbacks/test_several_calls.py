"""A step that runs the student several times with gradients: the last call is distilled, and that is said."""

import warnings

import pytest
import torch
import torch.nn.functional as F

from lkd.callbacks import Distillation, FeatureDistillation
from lkd.distillation import Distiller
from lkd.losses import KD
from lkd.teachers import Teacher

from .plain import Plain, digits, quick_trainer, seeded

SAID = "with gradients, and only the last of these calls"


class Calls(Plain):
    """Runs what it is told to, in order, beside its own step."""

    def __init__(self, before=(), after=(), step=None):
        super().__init__()
        self.before, self.after, self.step = before, after, step

    def training_step(self, batch, batch_idx):
        sums = [call(self, batch[0]) for call in self.before]
        loss = F.cross_entropy(self.step(self, batch[0]) if self.step else self(batch[0]), batch[1])
        return loss + 0.0 * sum(sums + [call(self, batch[0]) for call in self.after])


def again(module, x):
    return module(-x).mean()


def by_hand(module, x):
    return module.forward(-x).mean()


def inner(module, x):
    return module.net(-x).mean()


@torch.no_grad()
def without_gradient(module, x):
    return module(-x).mean()


def distill(module, callback=None, **options):
    callback = callback or Distillation(Teacher(seeded(1, Plain)), [KD()], **options)
    quick_trainer(callbacks=[callback] if isinstance(callback, Distillation) else callback).fit(
        module, digits()
    )


@pytest.mark.parametrize(
    ("make", "options", "named"),
    [
        (lambda: Calls([again]), {}, "student_layer='' 2 times and student_input='' 2 times"),
        (lambda: Calls([again], [again, without_gradient]), {}, "student_layer='' 3 times"),
        (lambda: Calls([by_hand]), {}, "student_layer='' 2 times"),
        (lambda: Calls([inner], step=lambda module, x: module.net(x)), {}, "student_layer='' 2 times"),
        (lambda: Calls([again]), {"input_key": 0}, "runs student_layer='' 2 times with"),
    ],
)
def test_several_calls_are_said_once(make, options, named):
    with pytest.warns(UserWarning, match=SAID) as said:
        distill(make(), **options)
    said = [str(warning.message) for warning in said if SAID in str(warning.message)]
    assert len(said) == 1 and said[0].startswith("Calls.training_step runs ") and named in said[0]


def test_calls_that_begin_later_are_said():
    def late(module, x):
        return again(module, x) if module.global_step > 1 else torch.zeros(())

    with pytest.warns(UserWarning, match=SAID):
        distill(Calls([late]))


def test_a_layer_is_named():
    callback = FeatureDistillation(Teacher(seeded(1, Plain)), {"net.1": "net.1"}, weight=1.0)
    with pytest.warns(UserWarning, match=r"student_layer='net.1' 2 times and student_input='' 2 times"):
        distill(Calls([again]), callback)


def relabels(hard):
    callback = Distillation(Teacher(seeded(1, Plain)), [KD()], alpha=0.5)
    relabel = lambda batch: [batch[0], (batch[1] + 1) % 10]  # noqa: E731
    callback.distiller = Distiller(callback.teacher, [KD()], 0.5, relabel=relabel, relabeled_weight=hard)
    return callback


@pytest.mark.parametrize(
    "make",
    [
        lambda: [Distillation(Teacher(seeded(1, Plain)), [KD()])],
        lambda: [FeatureDistillation(Teacher(seeded(1, lambda: Plain(32))), {"net.1": "net.1"}, weight=1.0)],
        lambda: [relabels(0.5)],  # its second pass is lkd's
        lambda: [relabels(0.5), Distillation(Teacher(seeded(2, Plain)), [KD()])],
        lambda: [Distillation(Teacher(seeded(1, Plain)), [KD()], alpha=0.0)],
    ],
)
@pytest.mark.parametrize("module", [{}, {"before": [without_gradient], "after": [without_gradient]}])
def test_one_call_with_gradients_is_not_warned_of(make, module):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=f".*{SAID}")
        distill(Calls(**module), make())


def test_a_call_of_all_samples_distills_them():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=f".*{SAID}")
        distill(Calls(step=lambda module, x: module(torch.cat([x, -x]))[: len(x)]))
