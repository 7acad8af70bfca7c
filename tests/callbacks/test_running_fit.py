"""Distillation attaches to the fit as it runs: whatever trains without it trains with it, on the same batches."""

import csv

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import BackboneFinetuning
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import CombinedLoader
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lkd.callbacks import EMA, Distillation, FeatureDistillation, LogitDistillation
from lkd.distillation import Distiller
from lkd.distillation.adapters import ADAPTERS
from lkd.losses import KD, FitNets
from lkd.teachers import Teacher
from tests.callbacks.plain import Plain, digits, quick_trainer, seeded


def logits():
    return LogitDistillation(Teacher(seeded(1, lambda: Plain(32))))


def features(**kwargs):
    return FeatureDistillation(
        Teacher(seeded(1, lambda: Plain(32))), {"net.1": "net.1"}, weight=1.0, **kwargs
    )


def beside():
    return Distillation(Teacher(seeded(1, lambda: Plain(32))), [KD(weight=0.9)])


def relabeling():
    callback = beside()
    callback.distiller = Distiller(
        callback.teacher, [], 1.0, relabel=lambda batch: batch, relabeled_weight=1.0
    )
    return callback


BOTH = pytest.mark.parametrize("callback", [logits, features])


class LayersInSetup(Plain):
    def __init__(self):
        super().__init__()
        del self.net

    def setup(self, stage):
        self.net = Plain().net


class DataInSetup(Plain):
    def setup(self, stage):
        self.rows = digits().dataset

    def train_dataloader(self):
        return DataLoader(self.rows, batch_size=16)


class DataInFitStart(DataInSetup):
    def setup(self, stage):
        pass

    def on_fit_start(self):
        self.rows = digits().dataset


class ReadsItsRate(Plain):
    def training_step(self, batch, batch_idx):
        assert self.optimizers().param_groups[0]["lr"] == self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("lr", self.lr_schedulers().get_last_lr()[0])
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class Hook(Plain):
    """What a hook makes, the step reads before its forward."""

    def training_step(self, batch, batch_idx):
        return super().training_step((batch[0] * self.scale, batch[1]), batch_idx)


def started_by(hook):
    return type(hook, (Hook,), {hook: lambda self, *_: setattr(self, "scale", torch.ones(1))})


class SkipsAtFirst(Plain):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) if batch_idx else None


class WithoutOptimizer(Plain):
    def configure_optimizers(self):
        return None


class HoldsALock(Plain):
    def __init__(self):
        super().__init__()
        self.lock = __import__("threading").Lock()


@BOTH
@pytest.mark.parametrize(
    "make",
    [
        LayersInSetup,
        DataInSetup,
        DataInFitStart,
        ReadsItsRate,
        started_by("on_fit_start"),
        started_by("on_train_start"),
        started_by("on_train_epoch_start"),
        started_by("on_train_batch_start"),
        SkipsAtFirst,
        HoldsALock,
        WithoutOptimizer,
    ],
)
def test_what_trains_without_it_trains_with_it(make, callback):
    module = seeded(0, make)
    data = None if "train_dataloader" in dir(make) and issubclass(make, DataInSetup) else digits()
    trainer = quick_trainer(callbacks=[callback()])
    trainer.fit(module, data)
    assert trainer.global_step == 4
    assert trainer.callback_metrics["distillation/total"].isfinite()


@BOTH
@pytest.mark.parametrize(
    "loaders",
    [
        lambda: {"a": digits(), "b": digits()},
        lambda: [digits(), digits()],
        lambda: CombinedLoader({"a": digits(), "b": digits(batch_size=8)}, "max_size_cycle"),
    ],
)
def test_several_loaders(loaders, callback):
    class Two(Plain):
        def training_step(self, batch, batch_idx):
            one, two = batch.values() if isinstance(batch, dict) else batch
            return super().training_step(one, batch_idx) + super().training_step(two, batch_idx)

    trainer = quick_trainer(callbacks=[callback()])
    trainer.fit(Two(), loaders())
    assert trainer.global_step >= 4


class Once(IterableDataset):
    """A queue: what was read is gone."""

    def __init__(self):
        self.source = iter(digits())

    def __iter__(self):
        yield from self.source


@BOTH
def test_a_stream_loses_no_batch(callback):
    def seen(*callbacks):
        labels = []

        class Noting(Plain):
            def on_train_batch_start(self, batch, batch_idx):
                labels.append(batch[1].tolist())

        quick_trainer(callbacks=list(callbacks)).fit(Noting(), DataLoader(Once(), batch_size=None))
        return labels

    assert seen(callback()) == seen()


def test_a_generator_of_the_loader_and_what_the_module_counts_stay_as_they_are():
    """Where adapters are sized before training, it shows in nothing else."""

    def seen(*callbacks):
        labels = []

        class Counting(Plain):
            def __init__(self):
                super().__init__()
                self.calls, self.sizes = 0, []

            def forward(self, x):
                self.calls += 1
                self.sizes.append(len(x))
                return super().forward(x)

            def on_train_start(self):
                assert (self.calls, self.sizes) == (0, []) and self.net[2].num_batches_tracked == 0

            def on_train_batch_start(self, batch, batch_idx):
                labels.append(batch[1].tolist())

        rows = digits().dataset
        loader = DataLoader(rows, batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(3))
        quick_trainer(callbacks=list(callbacks)).fit(Counting(), loader)
        return labels

    assert seen(features()) == seen()


def test_adapters_are_there_when_training_starts_and_are_no_weights_of_the_student():
    class Looks(Plain):
        def on_train_start(self):
            adapter = getattr(self, ADAPTERS)["fitnets"][0]
            known = {id(p) for group in self.optimizers().param_groups for p in group["params"]}
            assert (adapter.in_features, adapter.out_features) == (16, 32) and id(adapter.weight) in known
            assert not any(ADAPTERS in name for name in [*self.state_dict(), *dict(self.named_parameters())])

    student = Looks()
    quick_trainer(callbacks=[features()]).fit(student, digits())
    assert not hasattr(student, ADAPTERS)


def test_a_step_that_writes_to_its_logger_by_hand_writes_as_without_it(tmp_path):
    class Writes(Plain):
        def training_step(self, batch, batch_idx):
            self.logger.log_metrics({"seen": batch[0].sum()}, step=batch_idx)
            return super().training_step(batch, batch_idx)

    def seen(name, *callbacks):
        logger = CSVLogger(tmp_path, name=name)
        quick_trainer(logger=logger, log_every_n_steps=1, callbacks=list(callbacks)).fit(Writes(), digits())
        with open(f"{logger.log_dir}/metrics.csv", newline="") as file:
            return [row["seen"] for row in csv.DictReader(file) if row["seen"]]

    assert len(seen("plain")) == 4
    assert seen("plain") == seen("distilled", features())


def late(epochs, folder, checkpoint=None, extra=()):
    """A run whose adapters only the first step can size."""
    student, callback = seeded(0, started_by("on_train_epoch_start")), features()
    kept = {}
    callback.on_train_end = lambda trainer, module: kept.update(getattr(module, ADAPTERS).state_dict())
    trainer = quick_trainer(
        callbacks=[callback, *extra], max_epochs=epochs, enable_checkpointing=True, default_root_dir=folder
    )
    trainer.fit(student, digits(), ckpt_path=checkpoint)
    return {**student.state_dict(), **kept}, trainer.checkpoint_callback.best_model_path


def test_adapters_of_the_first_step_resume_bit_for_bit(tmp_path):
    class Adam(Plain):
        pass

    whole, _ = late(4, tmp_path / "whole")
    _, half = late(2, tmp_path / "half")
    resumed, _ = late(4, tmp_path / "resumed", half)
    assert whole.keys() == resumed.keys() and "fitnets.0.weight" in whole
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_adapters_of_the_first_step_beside_an_average_of_the_weights(tmp_path):
    plain = late(2, tmp_path / "plain")[0]
    averaged = late(2, tmp_path / "averaged", extra=[EMA(decay=0.0, tau=0.0)])[0]
    assert all(torch.equal(value, averaged[name]) for name, value in plain.items())


def test_mixed_precision_holds_for_parts_in_bfloat16():
    class Half(Plain):
        def __init__(self):
            super().__init__()
            self.net[4] = self.net[4].bfloat16()

    for callback in (logits(), features()):
        quick_trainer(callbacks=[callback], precision="bf16-mixed").fit(Half(), digits())


def test_double_precision_holds_for_adapters_too():
    images, labels = digits().dataset.tensors
    quick_trainer(callbacks=[features()], precision="64-true").fit(
        Plain(), DataLoader(TensorDataset(images.double(), labels), batch_size=16)
    )


class Frozen(Plain):
    def __init__(self):
        super().__init__()
        self.net[1].requires_grad_(False)


class NoGrad(Plain):
    def forward(self, x):
        with torch.no_grad():
            hidden = self.net[:2](x)
        return self.net[2:](hidden)


class Reentrant(Plain):
    def forward(self, x):
        x = x.clone().requires_grad_()
        return self.net[3:](torch.utils.checkpoint.checkpoint(self.net[:3], x, use_reentrant=True))


@pytest.mark.parametrize("make", [Frozen, NoGrad, Reentrant])
def test_a_loss_that_no_gradient_follows_is_refused(make):
    with pytest.raises(
        ValueError, match=r"student_layer=\['net\.1'\] of FitNets gives what no gradient reaches"
    ):
        quick_trainer(callbacks=[features()]).fit(make(), digits())


def test_a_backbone_that_thaws_later_may_be_compared():
    class Finetuned(Plain):
        @property
        def backbone(self):
            return self.net[1]

        def configure_optimizers(self):
            return torch.optim.SGD((p for p in self.parameters() if p.requires_grad), lr=self.lr)

    thaws = BackboneFinetuning(unfreeze_backbone_at_epoch=1, verbose=False)
    trainer = quick_trainer(callbacks=[features(), thaws], max_epochs=2)
    trainer.fit(Finetuned(), digits())
    assert trainer.global_step == 8


def test_compiled_modules_and_layers_inside_of_compiled_parts_are_refused():
    class Part(Plain):
        def __init__(self):
            super().__init__()
            self.net = torch.compile(self.net, backend="eager")

    with pytest.raises(ValueError, match=r"torch\.compile\(Plain\) hides its layers"):
        quick_trainer(callbacks=[logits()]).fit(torch.compile(Plain(), backend="eager"), digits())
    inside = FeatureDistillation(Teacher(Plain(32)), {"net._orig_mod.1": "net.1"}, weight=1.0)
    with pytest.raises(ValueError, match=r"'net\._orig_mod\.1' lies inside of what torch\.compile"):
        quick_trainer(callbacks=[inside]).fit(Part(), digits())
    trainer = quick_trainer(callbacks=[logits()])
    trainer.fit(Part(), digits())  # its own output can be compared
    assert trainer.global_step == 4


def test_a_module_that_calls_a_submodule_or_its_forward_by_hand():
    class Inner(Plain):
        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self.net(batch[0]), batch[1])

    class ByHand(Plain):
        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self.forward(batch[0]), batch[1])

    class WithLossAndMetric(Inner):
        def __init__(self):
            super().__init__()
            self.loss, self.seen = nn.CrossEntropyLoss(), __import__("torchmetrics").MeanMetric()

        def training_step(self, batch, batch_idx):
            self.seen(len(batch[0]))
            return self.loss(self.net(batch[0]), batch[1])

    def weights(make, *callbacks):
        module = seeded(0, make)
        quick_trainer(callbacks=list(callbacks)).fit(module, digits())
        return module.net[1].weight

    plain = weights(Plain, logits())
    assert not torch.equal(plain, weights(Plain))
    for make in (Inner, ByHand, WithLossAndMetric):
        assert torch.equal(plain, weights(make, logits())), make


def test_no_labels_and_no_forward():
    class Net(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Plain().net

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    class Two(Net):
        def __init__(self):
            super().__init__()
            self.body, self.head = self.net[:2], self.net[2:]

    def fit(make, **kwargs):
        module = seeded(0, make)
        callback = Distillation(Teacher(seeded(1, lambda: Plain(32))), [KD()], alpha=0.0, **kwargs)
        quick_trainer(callbacks=[callback]).fit(module, digits())
        return module.net[1].weight

    assert torch.equal(fit(Plain), fit(Net))
    with pytest.raises(ValueError, match=r"student_input='': Two has no forward.*\['net', 'body', 'head'\]"):
        fit(Two)
    two = Distillation(
        Teacher(seeded(1, lambda: Plain(32))), [KD(student_layer="net")], alpha=0.0, student_input="net"
    )
    quick_trainer(callbacks=[two]).fit(Two(), digits())


def test_late_adapters_outside_of_a_trainer_are_refused():
    module = Plain()
    module.log = lambda *args, **kwargs: None
    term = FitNets(student_layer="net.1", teacher_layer="net.1")
    distiller = Distillation(Teacher(Plain(32)), [term]).distiller
    distiller.attach(module)
    with pytest.raises(ValueError, match="attach with an example batch"):
        module.training_step(next(iter(digits())), 0)


def test_a_forward_on_the_side_takes_nothing_from_what_is_learned():
    class Measures(Plain):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            with torch.no_grad():
                self.log("acc", (self.net[3:](self.net[:3](batch[0])).argmax(1) == batch[1]).float().mean())
            return 0.0 * loss

    module = seeded(0, Measures)
    before = module.net[1].weight.detach().clone()
    quick_trainer(callbacks=[features()]).fit(module, digits())
    assert not torch.equal(before, module.net[1].weight)


def test_one_frozen_layer_among_several_is_refused():
    both = FeatureDistillation(Teacher(Plain(32)), {"net.1": "net.1", "net.4": "net.4"}, weight=1.0)
    with pytest.raises(ValueError, match="gives what no gradient reaches"):
        quick_trainer(callbacks=[both]).fit(Frozen(), digits())


def test_two_callbacks_with_adapters_are_refused_and_one_beside_logits_is_not(tmp_path):
    with pytest.raises(ValueError, match="two distillation callbacks learn adapters for Plain"):
        quick_trainer(callbacks=[features(), features()]).fit(Plain(), digits())
    for order in ((features, beside), (logits, features)):

        def fit(epochs, checkpoint=None, order=order):
            trainer = quick_trainer(
                callbacks=[make() for make in order],
                max_epochs=epochs,
                enable_checkpointing=True,
                default_root_dir=tmp_path / order[0].__name__,
            )
            module = seeded(0, Plain)
            trainer.fit(module, digits(), ckpt_path=checkpoint)
            return module.net[1].weight, trainer.checkpoint_callback.best_model_path

        assert torch.equal(fit(2)[0], fit(2, fit(1)[1])[0])


def test_two_callbacks_add_up_where_only_the_first_weights_the_labels():
    class Logs(Plain):
        """Keeps what is logged."""

        def log(self, name, value, *args, **kwargs):
            vars(self).setdefault("said", []).append((name, float(value)))

    batch = next(iter(digits()))
    callbacks = [Distillation(Teacher(seeded(1, Plain)), [KD(temperature=1.0)], alpha=0.5)]
    callbacks.append(FeatureDistillation(Teacher(seeded(2, Plain)), {"net.1": "net.1"}, weight=2.0))
    callbacks.append(Distillation(Teacher(seeded(3, Plain)), [KD(temperature=1.0)]))
    module = seeded(0, Logs)
    quick_trainer(callbacks=callbacks, limit_train_batches=1).fit(module, digits())
    said = dict(module.said)
    assert sorted(name for name, _ in module.said) == sorted(said), "a name was logged twice"
    own = F.cross_entropy(seeded(0, Plain)(batch[0]), batch[1]).item()
    expected = 0.5 * own + said["distillation/kd"] + 2.0 * said["distillation/fitnets"]
    expected += said["distillation/kd_2"]
    assert said["distillation/total"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: [features(), logits()], "LogitDistillation comes after FeatureDistillation, .* alpha=0.1"),
        (lambda: [logits(), logits()], "LogitDistillation comes after LogitDistillation"),
        (
            lambda: [features(), relabeling()],
            "Distillation comes after .* pseudo-labels would repeat the terms",
        ),
    ],
)
def test_two_callbacks_that_do_not_add_up_are_refused_before_a_teacher_is_made(make, message):
    callbacks = make()
    for callback in callbacks:
        callback.teacher.prepare = lambda: pytest.fail("a teacher was made")
    with pytest.raises(ValueError, match=message):
        quick_trainer(callbacks=callbacks).fit(Plain(), digits())
