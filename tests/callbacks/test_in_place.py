"""Distillation compares what layers gave, and repeats what they were given, though steps change that in place."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from lkd.callbacks import Distillation
from lkd.distillation import Distiller
from lkd.losses import DKD, KD, FitNets
from lkd.teachers import Ensemble, Teacher
from tests.callbacks.plain import Plain, digits, quick_trainer, seeded


class InPlace(Plain):
    """With an in-place ReLU, or not."""

    def __init__(self, inplace=True):
        super().__init__()
        self.net[3] = nn.ReLU(inplace)


class Note(KD):
    """Keeps what it compares."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seen = []

    def forward(self, student, teacher, labels=None, adapter=None):
        self.seen.append((student.detach().clone(), teacher.clone()))
        return super().forward(student, teacher)


def noted(module, teacher, data=None, layer="", **kwargs):
    term = Note(student_layer=layer, teacher_layer=layer)
    distillation = Distillation(teacher, [term], alpha=1.0, **kwargs)
    quick_trainer(callbacks=[distillation]).fit(module, data or digits())
    return term.seen


@pytest.mark.parametrize("terms", ["logits", "adapters"])
def test_weights_are_those_of_the_same_training_without_in_place_layers(terms):
    weights = []
    for inplace in (True, False):
        student, teacher = (seeded(seed, lambda i=inplace: InPlace(i)) for seed in (0, 1))
        layers = {"student_layer": "net.2", "teacher_layer": "net.2"}
        term = FitNets(**layers) if terms == "adapters" else KD(**layers)
        quick_trainer(callbacks=[Distillation(Teacher(teacher), [term], alpha=1.0)]).fit(student, digits())
        weights.append(student.net[1].weight.detach())
    assert torch.equal(*weights)


def test_the_teacher_is_given_what_the_forward_was_given():
    class Centered(Plain):
        def forward(self, x):
            return self.net(x.sub_(0.5))

    teacher = seeded(1, Plain)
    for (x, _), (_, taught) in zip(digits(), noted(Centered(), Teacher(teacher)), strict=True):
        assert torch.equal(taught, teacher(x))


def test_the_teacher_changes_nothing_of_the_student():
    class Centered(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = seeded(1, lambda: Plain().net)

        def forward(self, x):
            return self.net(x.sub_(0.5))

    one, other = Teacher(Centered()), Teacher(seeded(1, lambda: Plain().net))
    x = torch.rand(4, 1, 8, 8)
    before = x.clone()
    for _ in range(2):
        stacked = Ensemble([one, other])(x)
        assert torch.equal(x, before) and torch.equal(stacked[:, 1], other(x))


def test_a_teacher_that_changes_its_input_late_is_refused():
    class Late(nn.Linear):
        late = False

        def forward(self, x):
            return super().forward(x.sub_(1) if self.late else x)

    model = Late(2, 2)
    teacher = Teacher(model)
    teacher(torch.ones(1, 2))
    model.late = True
    with pytest.raises(ValueError, match=r"teacher Late changes in place"):
        teacher(torch.ones(1, 2))


def dicts():
    x, y = digits().dataset.tensors
    return DataLoader([{"x": a, "label": b} for a, b in zip(x, y, strict=True)], batch_size=16)


def test_an_entry_that_the_step_changes_is_no_input_for_the_teacher():
    class Centered(Plain):
        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch["x"].sub_(0.5)), batch["label"])

    with pytest.raises(ValueError, match=r"input_key='x': the student's step changes"):
        noted(Centered(), Teacher(Plain()), dicts(), input_key="x")


def test_an_entry_that_the_step_makes_anew_is():
    class Centered(Plain):
        def training_step(self, batch, batch_idx):
            batch["x"] = batch["x"] - 0.5
            return F.cross_entropy(self(batch["x"]), batch["label"])

    teacher = seeded(1, Plain)
    seen = noted(Centered(), Teacher(teacher), dicts(), input_key="x")
    assert torch.equal(seen[0][1], teacher(next(iter(digits()))[0] - 0.5))


def test_labels_and_inputs_that_the_step_takes_out_are_found():
    class Pops(Plain):
        def training_step(self, batch, batch_idx):
            labels = batch.pop("label")
            return F.cross_entropy(self(batch.pop("x")), labels)

    terms = [DKD(), FitNets(student_layer="net.1", teacher_layer="net.1")]
    distillation = Distillation(Teacher(Plain(32)), terms, input_key="x", label_key="label")
    trainer = quick_trainer(callbacks=[distillation])
    trainer.fit(Pops(), dicts())
    assert trainer.callback_metrics["distillation/dkd"].isfinite()


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_a_second_pass_is_given_what_the_first_one_was(alpha):
    class Scaled(Plain):
        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch.pop("x")), batch.pop("label"))

    class Centered(Plain):
        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch["x"].sub_(0.5)), batch["label"])

    def relabel(batch):
        return {**batch, "label": batch["label"].flip(0)}

    def step(module):
        distiller = Distiller(Teacher(Plain()), [], alpha, relabel=relabel, relabeled_weight=1.0)
        module.log = lambda *_, **__: None
        distiller.attach(module)
        return module.training_step(next(iter(dicts())), 0)

    assert step(Scaled()).isfinite()
    if alpha:
        with pytest.raises(ValueError, match="changes its inputs in place, so that its second pass"):
            step(Centered())
    else:
        assert step(Centered()).isfinite()
