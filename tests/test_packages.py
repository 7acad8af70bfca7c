"""Modules of `pytorch_lightning`, which most tutorials are written with, beside those of `lightning`."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.callbacks import EMA, FeatureDistillation, LogitDistillation, MeanTeacher
from lkd.datamodules import IID, FederatedDataModule
from lkd.federated import Federation
from lkd.modules import Classifier
from lkd.packages import base_of, is_module, overrides
from lkd.teachers import Teacher
from tests.callbacks.plain import digits, quick_trainer, seeded

pl = pytest.importorskip("pytorch_lightning", reason="pytorch_lightning is not installed")


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


class Step:
    """What both have in common."""

    def __init__(self, lr=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.net = network()

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", F.cross_entropy(self(batch[0]), batch[1]), batch_size=self.trainer.num_devices)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class Old(Step, pl.LightningModule):
    pass


class New(Step, LightningModule):
    pass


class OldData(pl.LightningDataModule):
    def train_dataloader(self):
        return digits()

    def val_dataloader(self):
        return digits()


def old_trainer(**kwargs):
    quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "max_epochs": 1}
    return pl.Trainer(**quiet, enable_progress_bar=False, enable_model_summary=False, **kwargs)


def logits():
    return LogitDistillation(Teacher(seeded(1, network)))


def features():
    return FeatureDistillation(Teacher(seeded(1, network)), {"net.1": "1"}, weight=1.0)


@pytest.mark.parametrize("callback", [logits, features, lambda: MeanTeacher(decay=0.9)])
def test_distilled_under_its_own_trainer_it_learns_the_same(callback):
    old, new = seeded(0, Old), seeded(0, New)
    old_trainer(callbacks=[callback()]).fit(old, OldData())
    quick_trainer(callbacks=[callback()]).fit(new, digits())
    assert all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))


def test_as_a_teacher():
    trainer = quick_trainer(callbacks=[LogitDistillation(Teacher(Old()))])
    trainer.fit(Classifier(network(), num_classes=10), digits())
    assert trainer.callback_metrics["distillation/kd"] > 0


def test_as_a_client_it_learns_the_same():
    weights = []
    for make in (Old, New):
        federation = Federation(seeded(0, make))
        trainer = quick_trainer(max_epochs=2)
        trainer.fit(federation, datamodule=FederatedDataModule(OldData(), IID(), clients=2))
        assert "val/loss" in trainer.callback_metrics
        weights.append([p.detach().clone() for p in federation.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_hooks_are_known_by_either_name():
    class Hooked(Old):
        def setup(self, stage):
            pass

    assert is_module(Old()) and is_module(New()) and not is_module(network())
    assert (
        overrides(Hooked(), "setup") and not overrides(Old(), "setup") and overrides(Old(), "training_step")
    )
    assert base_of(OldData()) is pl.LightningDataModule and overrides(OldData(), "train_dataloader")


def test_what_needs_the_other_package_names_both():
    with pytest.raises(
        ValueError, match=r"EMA is built on the package lightning, and Old on pytorch_lightning"
    ):
        old_trainer(callbacks=[EMA()]).fit(
            Old(), DataLoader(TensorDataset(torch.zeros(4, 64), torch.zeros(4).long()))
        )


def test_the_command_line_names_both(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import pytorch_lightning as pl\n\n\nclass Mine(pl.LightningModule):\n    pass\n"
    )
    config = "configs/federated/digits_fedavg.yaml"
    command = [
        sys.executable,
        "-W",
        "ignore",
        "cli.py",
        "fit",
        "--config",
        config,
        "--model.model=mine.Mine",
    ]
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "LightningModule of the package lightning" in run.stderr and "pytorch_lightning" in run.stderr
