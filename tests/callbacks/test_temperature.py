"""TemperatureSchedule against closed forms, as the terms see it step by step and round by round."""

import math

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import ConcatDataset, DataLoader, Subset

from lkd.callbacks import Distillation, LogitDistillation, RelationDistillation, TemperatureSchedule
from lkd.losses import DKD, KD, LogitMatching, MultiTeacher, Standardized
from lkd.teachers import Ensemble, Teacher

from .federation import data, federation
from .federation import fit as fit_federation
from .plain import Plain, digits, quick_trainer, seeded


class Watched(KD):
    """Notes the temperature of every training step."""

    def __init__(self, temperature=4.0, weight=1.0):
        super().__init__(temperature, weight)
        self.seen = []

    def forward(self, student, teacher, labels=None, adapter=None):
        if student.requires_grad:  # not the rehearsal
            self.seen.append(self.temperature)
        return super().forward(student, teacher, labels, adapter)


def teacher():
    return Teacher(seeded(1, lambda: Plain(32)))


def fit(schedule, term=None, epochs=3, **options):
    """Four batches an epoch; returns the temperatures of the steps."""
    term = term or Watched()
    callbacks = [schedule, Distillation(teacher(), [term], alpha=0.5)]  # in either order
    callbacks += options.pop("callbacks", [])
    student = seeded(0, Plain)
    quick_trainer(callbacks=callbacks, max_epochs=epochs, **options).fit(student, digits(), ckpt_path=None)
    return term


def linear(start, end, n, count):
    return [start + (end - start) * min(i / n, 1) for i in range(count)]


def cosine(start, end, n, count):
    return [end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(i / n, 1))) for i in range(count)]


@pytest.mark.parametrize(("shape", "form"), [("linear", linear), ("cosine", cosine)])
@pytest.mark.parametrize(("start", "end"), [(8.0, 2.0), (1.0, 6.0)])
def test_over_steps(shape, form, start, end):
    term = fit(TemperatureSchedule(start, end, shape, steps=5))
    assert term.seen == pytest.approx(form(start, end, 5, 12))
    assert term.seen[0] == start and term.seen[5:] == [end] * 7


@pytest.mark.parametrize(("shape", "form"), [("linear", linear), ("cosine", cosine)])
def test_over_epochs_the_last_of_which_has_the_end(shape, form):
    term = fit(TemperatureSchedule(8.0, 2.0, shape), epochs=4)
    assert term.seen == pytest.approx([t for t in form(8.0, 2.0, 3, 4) for _ in range(4)])
    assert term.seen[-1] == 2.0
    term = fit(TemperatureSchedule(8.0, 2.0, shape, epochs=2), epochs=4)
    assert term.seen == pytest.approx([t for t in form(8.0, 2.0, 2, 4) for _ in range(4)])


def test_constant_is_constant_even_without_an_end():
    assert fit(TemperatureSchedule(3.0, shape="constant"), epochs=2).seen == [3.0] * 8
    assert fit(TemperatureSchedule(3.0, shape="constant"), epochs=-1, max_steps=5).seen == [3.0] * 5


def test_a_single_epoch_has_the_start():
    assert fit(TemperatureSchedule(8.0, 2.0), epochs=1).seen == [8.0] * 4


def test_accumulated_batches_share_a_temperature():
    term = fit(TemperatureSchedule(8.0, 2.0, steps=3), epochs=2, accumulate_grad_batches=2)
    assert term.seen == pytest.approx([8, 8, 6, 6, 4, 4, 2, 2])


def test_changes_what_is_learned():
    def weights(schedule):
        student = seeded(0, Plain)
        callbacks = [LogitDistillation(teacher(), temperature=4.0), *schedule]
        quick_trainer(callbacks=callbacks, max_epochs=2).fit(student, digits())
        return student.net[1].weight

    plain = weights([])
    assert torch.equal(weights([TemperatureSchedule(4.0, shape="constant")]), plain)
    assert not torch.equal(weights([TemperatureSchedule(8.0, 1.0)]), plain)


@pytest.mark.parametrize("unit", ["steps", "epochs"])
@pytest.mark.parametrize("at", [3, 4, 8])
def test_resumed_run_is_identical(tmp_path, unit, at):
    def run(ckpt=None):
        student, term = seeded(0, Plain), Watched()
        length = {"steps": 9} if unit == "steps" else {"epochs": 2}
        saver = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=1)
        callbacks = [Distillation(teacher(), [term]), TemperatureSchedule(8.0, 1.0, "cosine", **length)]
        callbacks += [] if ckpt else [saver]
        trainer = quick_trainer(callbacks=callbacks, max_epochs=3, enable_checkpointing=not ckpt)
        trainer.fit(student, DataLoader(same, batch_size=16), ckpt_path=ckpt)
        return student, term.seen

    # all batches are alike, because a loader begins its epoch again where a run stops within one
    same = ConcatDataset([Subset(digits().dataset, range(16))] * 4)

    whole, seen = run()
    resumed, rest = run(tmp_path / f"step={at}.ckpt")
    assert rest == seen[at:]
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("length", [{"steps": 3}, {"epochs": 3}, {}])
def test_rounds_of_a_federation(length):
    net = seeded(1, lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)))
    rounds, term = [], Watched()

    class Rounds(TemperatureSchedule):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
            rounds.append(len(term.seen))

    callbacks = [Distillation(Teacher(net), [term], alpha=0.5), Rounds(8.0, 2.0, **length)]
    fit_federation(callbacks, rounds=4, module=federation(), datamodule=data())
    ends = [*rounds[1:], len(term.seen)]
    each = [set(term.seen[start:end]) for start, end in zip(rounds, ends, strict=True)]
    assert [pytest.approx(t) for t in (8.0, 6.0, 4.0, 2.0)] == [min(values) for values in each]
    assert all(len(values) == 1 for values in each)  # all clients of a round
    assert min(end - start for start, end in zip(rounds, ends, strict=True)) >= 4  # every client was there


def test_terms_inside_others_follow_and_have_their_own_temperature_afterwards():
    inner, dkd = Watched(5.0), DKD(7.0)
    ensemble = Ensemble([teacher(), teacher()])
    outer = Standardized(MultiTeacher(inner))
    callbacks = [Distillation(ensemble, [outer, MultiTeacher(dkd)]), TemperatureSchedule(8.0, 2.0, steps=2)]
    quick_trainer(callbacks=callbacks).fit(seeded(0, Plain), digits())
    assert inner.seen == [8.0, 5.0, 2.0, 2.0]
    assert (inner.temperature, dkd.temperature) == (5.0, 7.0)


def test_named_terms_alone_follow():
    first, second, other = Watched(), Watched(5.0), LogitMatching()
    schedule = TemperatureSchedule(8.0, 2.0, steps=2, terms=["watched_2"])
    quick_trainer(callbacks=[schedule, Distillation(teacher(), [first, second, other])]).fit(
        seeded(0, Plain), digits()
    )
    assert first.seen == [4.0] * 4 and second.seen == [8.0, 5.0, 2.0, 2.0]


class Contrast(LogitMatching):
    """Means something else by its temperature."""

    temperature = 0.07


@pytest.mark.parametrize(("named", "after"), [(None, 0.07), (["watched", "contrast"], 8.0)])
def test_other_kinds_of_temperature_are_left_alone_unless_named(named, after):
    contrast, seen = Contrast(), []
    forward = contrast.forward
    contrast.forward = lambda *args, **kwargs: seen.append(contrast.temperature) or forward(*args, **kwargs)
    schedule = TemperatureSchedule(8.0, shape="constant", terms=named)
    quick_trainer(callbacks=[schedule, Distillation(teacher(), [Watched(), contrast])]).fit(
        seeded(0, Plain), digits()
    )
    assert seen == [after] * 4
    assert contrast.temperature == 0.07


def test_terms_of_two_distillations_of_one_name_both_follow():
    first, second = Watched(), Watched(5.0)
    callbacks = [TemperatureSchedule(8.0, 2.0, steps=2)]
    callbacks += [Distillation(teacher(), [term]) for term in (first, second)]
    quick_trainer(callbacks=callbacks).fit(seeded(0, Plain), digits())
    assert first.seen == second.seen == [8.0, 5.0, 2.0, 2.0]


def test_a_run_that_breaks_off_leaves_the_term_as_it_was():
    class Broken(Watched):
        def forward(self, *args, **kwargs):
            if len(self.seen) == 2:
                raise RuntimeError("broken")
            return super().forward(*args, **kwargs)

    term = Broken(5.0)
    with pytest.raises(RuntimeError, match="broken"):
        fit(TemperatureSchedule(8.0, 2.0), term)
    assert term.temperature == 5.0


def test_is_logged():
    callbacks = [LogitDistillation(teacher()), TemperatureSchedule(8.0, 2.0, steps=2)]
    trainer = quick_trainer(callbacks=callbacks)
    trainer.fit(seeded(0, Plain), digits())
    assert trainer.callback_metrics["distillation/temperature"] == 2.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 0.0}, "start=0.0 must be above 0"),
        ({"start": 4.0, "end": -1.0}, "end=-1.0 must be above 0"),
        ({"start": float("nan")}, "start=nan must be above 0"),
        ({"start": 4.0, "shape": "step"}, "shape='step' must be 'linear', 'cosine' or 'constant'"),
        ({"start": 4.0, "epochs": 1, "steps": 1}, "epochs=1 and steps=1: give one of them"),
        ({"start": 4.0, "steps": 0}, "steps=0 must be 1 or more"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        TemperatureSchedule(**options)


def test_bad_surroundings():
    with pytest.raises(ValueError, match="the Trainer has no Distillation"):
        quick_trainer(callbacks=[TemperatureSchedule(4.0)]).fit(Plain(), digits())
    relation = RelationDistillation(teacher(), student_layer="net.1", teacher_layer="net.1")
    with pytest.raises(ValueError, match=r"no temperature to set: the terms are \['rkd'\]"):
        quick_trainer(callbacks=[TemperatureSchedule(4.0), relation]).fit(Plain(), digits())
    with pytest.raises(ValueError, match=r"no term is called 'dkd', but \['watched'\] are"):
        fit(TemperatureSchedule(4.0, terms=["dkd"]))
    with pytest.raises(ValueError, match="the schedule has no end: give epochs or steps"):
        fit(TemperatureSchedule(4.0), epochs=-1, max_steps=3)
