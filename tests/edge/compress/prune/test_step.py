"""The steps `Prune` and `Recover`, from a checkpoint to a checkpoint."""

import copy
import functools
import logging
import re
from dataclasses import replace

import onnx
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.callbacks import Distillation
from lkd.edge import Exported
from lkd.edge.compress import Job, Limits, Parent, Prune, Recover, Stage, compress, student
from lkd.edge.compress.prune.batches import reestimate, training_batches
from lkd.edge.compress.recover import thaw
from lkd.edge.export import export
from lkd.losses import KD, FitNets
from lkd.pruned import KEY
from lkd.teachers import Teacher

from ...students import Samples, save
from ...students import classifier as flat
from . import subjects as s


class Data(LightningDataModule):
    """What a wide network says is the truth."""

    def __init__(self, labeled=True):
        super().__init__()
        x = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            y = s.classifier(seed=0).eval()(x).argmax(1)
        self.sets, self.labeled = TensorDataset(x, y), labeled

    def train_dataloader(self):
        given = self.sets if self.labeled else TensorDataset(self.sets.tensors[0])
        return DataLoader(given, batch_size=16, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.sets, batch_size=48)

    test_dataloader = val_dataloader


def trainer(**options):
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    return Trainer(**{**quiet, **options})


@pytest.fixture
def job(tmp_path):
    parent = Stage("0 parent", tmp_path, tmp_path / "x.ckpt")
    save(s.classifier(), parent.checkpoint)

    def make(name, data=None, module=None, **over):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        given = (
            module or s.classifier(seed=5),
            data or Data(),
            trainer,
            0,
            Limits(),
            parent,
            name,
            folder,
            None,
        )
        return Job(*given)

    return make


def losses(module):
    """On the labels, and from what the dense student says."""
    x, y = Data().sets.tensors
    with torch.no_grad():
        said, wanted = module.eval()(x), s.classifier().eval()(x).softmax(1)
    return float(nn.functional.cross_entropy(said, y)), float(nn.functional.cross_entropy(said, wanted))


def test_pruned_then_recovered_by_each_way(job):
    dense = job("1 prune")
    pruned = Prune(macs=0.4, batches=3).run(dense.parent, dense)
    spoiled = losses(student(dense.config_module, pruned.checkpoint))
    adam = lambda params: torch.optim.Adam(params, lr=0.01)  # noqa: E731
    ways = {
        "labels": [],
        "both": [
            Distillation(
                Parent(),
                [KD(temperature=2.0), FitNets(student_layer="network.stem", teacher_layer="network.stem")],
                alpha=0.5,
            )
        ],
        "alone": [Distillation(Parent(), [KD(temperature=2.0)], alpha=0.0)],
        "own": [Distillation(Teacher(s.classifier()), [KD(temperature=2.0)], alpha=0.0)],
    }
    for name, distillation in ways.items():
        made = Recover(4, distillation, optimizer=adam).run(pruned, job(name))
        recovered = student(dense.config_module, made.checkpoint)
        which = 1 if name in ("alone", "own") else 0
        assert losses(recovered)[which] < spoiled[which] and hasattr(recovered, KEY), name
    again = Recover(4, ways["own"], optimizer=adam).run(pruned, job("own"))  # goes on from its end
    assert losses(student(dense.config_module, again.checkpoint)) == losses(recovered)


def test_unlabeled_data_serve_pruning_and_distillation(job):
    given = job("1 prune", Data(labeled=False))
    pruned = Prune(macs=0.6).run(given.parent, given)
    made = Recover(1, [Distillation(Parent(), [KD()], alpha=0.0)]).run(
        pruned, job("2 recover", Data(labeled=False))
    )
    assert made.checkpoint.name == "last.ckpt"


def test_the_best_epoch_by_a_metric(job, caplog):
    given = job("1 prune")
    pruned = Prune(macs=0.5).run(given.parent, given)
    with caplog.at_level(logging.INFO, "lkd"):
        made = Recover(2, monitor="val/acc").run(pruned, job("2 recover"))
    assert made.checkpoint.name == "best.ckpt" and "best by val/acc" in caplog.text
    assert hasattr(student(given.config_module, made.checkpoint), KEY)


def test_an_interrupted_recovery_goes_on(job):
    given = job("1 prune")
    pruned = Prune(macs=0.5).run(given.parent, given)
    Recover(1).run(pruned, job("2 recover"))
    made = Recover(3).run(pruned, job("2 recover"))
    assert torch.load(made.checkpoint, weights_only=True)["global_step"] == 3 * 6


@pytest.mark.parametrize(
    ("stop", "by"),
    [
        ({"callbacks": [EarlyStopping("val/acc", patience=1, mode="max", min_delta=2.0)]}, "EarlyStopping"),
        ({"max_time": {"seconds": 0}}, "Timer"),
    ],
)
def test_a_recovery_that_the_trainer_s_options_end_early_says_so(job, caplog, stop, by):
    given = job("1 prune")
    pruned = Prune(macs=0.5).run(given.parent, given)
    assert Recover(1).run(pruned, job("2 recover")).note == ""
    early = replace(job("3 recover"), trainer=functools.partial(trainer, **stop))
    with caplog.at_level(logging.WARNING, "lkd"):
        note = Recover(4).run(pruned, early).note
    assert re.fullmatch(rf"ended by {by} of the configuration's Trainer after [012] of 4 epochs", note)
    assert note in caplog.text


def test_what_another_recovery_left_is_not_gone_on_from(job, caplog):
    given = job("1 prune")
    pruned = Prune(macs=0.5).run(given.parent, given)
    Recover(2).run(pruned, job("2 recover"))
    with caplog.at_level(logging.WARNING, "lkd"):
        made = Recover(1, [Distillation(Parent(), [KD()])]).run(pruned, job("2 recover"))
    assert "is of another recovery" in caplog.text
    assert torch.load(made.checkpoint, weights_only=True)["global_step"] == 6


def test_the_same_seed_the_same_checkpoint(job):
    given = job("1 prune"), job("again")
    one, two = (torch.load(Prune(macs=0.5).run(g.parent, g).checkpoint, weights_only=True) for g in given)
    assert one[KEY] == two[KEY]
    assert all(torch.equal(one["state_dict"][name], two["state_dict"][name]) for name in one["state_dict"])


class Flat(Samples):
    def train_dataloader(self):
        return DataLoader(TensorDataset(self.x, self.y), batch_size=5)


@pytest.mark.usefixtures("quick")
def test_a_pruned_student_becomes_a_file_and_is_read_by_every_verb(tmp_path):
    ckpt, module = save(flat(), tmp_path / "x.ckpt"), flat(seed=1)
    steps = [Prune(ratio=0.5, batches=2), Recover(2, [Distillation(Parent(), [KD()], alpha=0.5)])]
    limits = Limits(max_drop=5.0, allow_slower=True)
    (path,) = compress(module, Flat(), ckpt, steps, limits, str(tmp_path / "out"), trainer=trainer)
    graph = onnx.load(path).graph
    assert [list(w.dims) for w in graph.initializer if len(w.dims) == 2] == [[4, 12], [3, 4]]
    assert module.network[1].out_features == 8
    checkpoint = next((tmp_path / "out").glob("2*/last.ckpt"))
    loaded = flat(seed=2)
    trainer().test(loaded, datamodule=Flat(), ckpt_path=checkpoint, weights_only=True, verbose=False)
    assert loaded.network[1].out_features == 4
    (alone,) = export(flat(seed=3), Flat(), str(checkpoint), str(tmp_path / "alone"))
    assert Exported(alone).card["metrics"]["file"] == Exported(path).card["metrics"]["file"]


def test_batch_statistics_are_those_of_the_batches_and_live_again():
    module = s.detector(freeze_batchnorm=True)
    batches = s.frames(size=(64, 96))
    reestimate(module, batches)
    norm = next(m for m in module.modules() if isinstance(m, nn.BatchNorm2d))
    first = module.network.net.model[0].conv(batches[0]["images"])
    assert torch.allclose(norm.running_mean, first.mean((0, 2, 3)), atol=1e-6)
    assert norm.momentum is not None
    module.train()
    assert not norm.training
    thaw(module)
    assert all(m.training for m in module.modules() if isinstance(m, nn.BatchNorm2d))


def test_a_frozen_configuration_is_told_and_overruled(caplog):
    module = s.detector(freeze_batchnorm=True, freeze=2)
    thaw(module)
    assert all(p.requires_grad for p in module.network.layers[0].parameters())
    assert "freeze_batchnorm=True and freeze=2 of the configuration" in caplog.text


def test_statistics_of_a_camera_without_frames_are_kept():
    module = s.detector(cameras=["C1", "C2"])
    before = copy.deepcopy(module.network.copies["C2"].state_dict())
    reestimate(module, s.frames())
    assert all(torch.equal(v, before[k]) for k, v in module.network.copies["C2"].state_dict().items())


class Cameras(LightningDataModule):
    def __init__(self, *cameras):
        super().__init__()
        self.batches = [s.frames(cameras=(camera, camera))[0] for camera in cameras]

    def train_dataloader(self):
        return DataLoader(self.batches, batch_size=None)


def test_batches_of_every_camera_are_looked_for():
    module = s.detector(cameras=["C1", "C2"])
    found = training_batches(module, Cameras("C1", "C1", "C1", "C2", "C2"), 1, seed=0)
    assert [one["cameras"][0] for one in found] == ["C1", "C2"]
    with pytest.raises(ValueError, match="no training frames of C2"):
        training_batches(module, Cameras("C1"), 1, seed=0)


def test_looking_at_batches_draws_nothing_and_trains_nothing(job):
    module = s.classifier()
    before, state = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    one, two = (training_batches(module, Data(), 2, seed) for seed in (0, 0))
    assert torch.equal(one[1][0], two[1][0]) and len(one) == 2
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_what_recovery_refuses(job):
    with pytest.raises(ValueError, match="epochs=0"):
        Recover(0)
    with pytest.raises(TypeError, match="has a EarlyStopping, and takes Distillation"):
        Recover(1, [EarlyStopping("val/acc")])
    with pytest.raises(
        ValueError, match=r"Recover\(optimizer=...\): LightningModule has no attribute 'optimizer'"
    ):
        Recover(1, optimizer=torch.optim.SGD).check(LightningModule(), Data())
    with pytest.raises(ValueError, match="there is none here"):
        Distillation(Parent(), [KD()]).teacher.prepare()


def test_a_scheduler_of_another_length_is_told(job):
    given = job("1 prune")
    pruned = Prune(macs=0.5).run(given.parent, given)
    cosine = lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=9)  # noqa: E731
    with pytest.warns(UserWarning, match="T_max is 9, and the recovery has 1 epochs"):
        Recover(1, scheduler=cosine).run(pruned, job("2 recover"))
