"""A run that a signal ends: its exit code, its checkpoint, the command that goes on, and who ends with it. Real processes."""

import multiprocessing
import os
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import lkd.__main__
import lkd.lightning_cli  # for the forks
from lkd.cli import main

ROOT = Path(__file__).parents[1]
OWN = """
import os
import torch
from lightning.pytorch import Callback, LightningModule, LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

class Data(LightningDataModule):
    def train_dataloader(self):
        x = torch.linspace(-1, 1, 12).view(12, 1)
        return DataLoader(TensorDataset(x), batch_size=2)

class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(1, 1)
    def training_step(self, batch, batch_idx):
        return (self.body(batch[0]) - 2).square().mean()
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.1)

class Signal(Callback):
    def __init__(self, number: int, step: int = 3, times: int = 1, rank: int = 0):
        self.__dict__ |= dict(number=number, step=step, times=times, rank=rank)
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)
    def setup(self, trainer, pl_module, stage):
        if self.step < 0:
            os.kill(os.getpid(), self.number)
"""
CONFIG = """
seed_everything: 1
model: own_ending.Net
data: own_ending.Data
trainer:
  accelerator: cpu
  max_epochs: 2
  logger: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - {class_path: ModelCheckpoint, init_args: {dirpath: saved, save_last: true}}
"""


class Ran(NamedTuple):
    returncode: int
    said: str


def become_lkd(folder, arguments):
    """In a fork, which has imported all: what `python -m lkd fit` would be."""
    os.chdir(folder)
    out = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1), os.dup2(out, 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{folder}"
    sys.path.insert(0, str(folder))
    sys.modules["__main__"] = lkd.__main__  # what further ranks are started by
    sys.argv = [str(ROOT / "lkd/__main__.py"), "fit", *arguments]
    main()


@pytest.fixture
def fit(tmp_path):
    (tmp_path / "own_ending.py").write_text(OWN)
    (tmp_path / "c.yaml").write_text(CONFIG)

    def run(*options, **signals):
        arguments = ["--config", "c.yaml", *options]
        if signals:
            arguments += ["--trainer.callbacks+=own_ending.Signal",
                          *(f"--trainer.callbacks.{name}={int(value)}" for name, value in signals.items())]  # fmt: skip
        process = multiprocessing.get_context("fork").Process(target=become_lkd, args=(tmp_path, arguments))
        process.start()
        process.join(120)
        return Ran(process.exitcode, (tmp_path / "log.txt").read_text())

    return run


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def test_a_signal_saves_and_the_command_that_is_printed_goes_on(fit, tmp_path):
    whole = fit()
    assert whole.returncode == 0, whole.said
    wanted = weights(tmp_path / "saved/last.ckpt")
    ended = fit(number=signal.SIGTERM, step=6)  # the last step of an epoch: no batch is seen twice
    assert ended.returncode == 143 and "Traceback" not in ended.said, ended.said
    (command,) = re.findall(r"Go on by:\n  (.*)", ended.said)
    assert command.startswith("python -m lkd fit --config c.yaml")
    options = shlex.split(command)[5:]
    again = fit(*options[options.index("--ckpt_path") :])
    assert again.returncode == 0, again.said
    for name, tensor in weights(tmp_path / "saved/last.ckpt").items():
        assert torch.equal(tensor, wanted[name])


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGTERM, 143)]
)
def test_each_signal_has_its_exit_code_and_one_in_the_middle_of_an_epoch_saves_too(
    fit, tmp_path, number, code
):
    ended = fit(number=number, step=3)
    assert ended.returncode == code and "Saved saved/interrupted.ckpt at step 3." in ended.said.replace(
        f"{tmp_path}/", ""
    )
    assert torch.load(tmp_path / "saved/interrupted.ckpt", weights_only=True)["global_step"] == 3


def test_one_during_the_last_step_is_not_lost(fit, tmp_path):
    ended = fit(number=signal.SIGTERM, step=12)
    assert ended.returncode == 143 and "at step 12" in ended.said


def test_before_training_it_ends_at_once_and_so_does_a_second_one(fit, tmp_path):
    ended = fit(number=signal.SIGTERM, step=-1)
    assert ended.returncode == 143 and not (tmp_path / "saved/interrupted.ckpt").exists()
    ended = fit(number=signal.SIGINT, times=2)
    assert ended.returncode == 130 and "SIGINT again: ending at once." in ended.said
    assert not (tmp_path / "saved/interrupted.ckpt").exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_of_two_ranks_ends_both(fit, tmp_path, rank):
    two = ("--trainer.devices=2", "--trainer.strategy=ddp")
    ended = fit(*two, number=signal.SIGTERM, step=2, rank=rank)
    assert ended.returncode == 143 and "at step 2" in ended.said, ended.said
