"""Where a run's results are: links, the printed lines, and what a test without a checkpoint could have used."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from lkd.cli import main
from lkd.datamodules import Digits
from lkd.modules import Classifier
from lkd.whereabouts import command, earlier, keep_last, link_best, tell

ROOT = Path(__file__).parents[1]
CONFIG = str(ROOT / "configs/classification/digits.yaml")
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "limit_train_batches": 2,
         "limit_val_batches": 1, "num_sanity_val_steps": 0}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_says_where_its_results_are_and_what_comes_next(here, capsys, caplog):
    small = ["--config", CONFIG, "--distillation=null", "--model.network=test_resnet", "--trainer.limit_train_batches=1",
             "--trainer.max_epochs=1", "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1"]  # fmt: skip
    main(["fit", *small, "--save_as=own/last.ckpt"])
    said = capsys.readouterr().out
    run = "runs/digits/version_0"
    assert f"Results: {run}\n  last checkpoint: {run}/checkpoints/last.ckpt\n" in said
    assert (
        f"best checkpoint: {run}/checkpoints/best.ckpt (the last: no ModelCheckpoint has a monitor)" in said
    )
    assert "epoch 1/1: train/loss " in said and "val/acc " in said  # no terminal: a line an epoch
    (line,) = (line for line in said.splitlines() if "measure it again" in line)
    assert line.endswith(f"lkd test {' '.join(small)} --ckpt_path={run}/checkpoints/best.ckpt")
    weights = [torch.load(path)["state_dict"] for path in (f"{run}/checkpoints/best.ckpt", "own/last.ckpt")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    with caplog.at_level("WARNING", "lkd"):
        main(["test", *small])
    assert f"Trained ones are there: --ckpt_path={run}/checkpoints/best.ckpt" in caplog.text
    assert "Results: runs/digits/version_1" in capsys.readouterr().out


def fitted(folder, *checkpoints, epochs=2):
    trainer = Trainer(
        default_root_dir=folder, max_epochs=epochs, callbacks=[*checkpoints], logger=False, **QUIET
    )
    keep_last(trainer)
    trainer.fit(Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))), Digits())
    return trainer


def test_with_a_monitor_best_is_the_best_and_last_is_the_last(tmp_path, capsys):
    saving = ModelCheckpoint(tmp_path, monitor="val/acc", mode="min", filename="{epoch}")
    trainer = fitted(tmp_path, saving, epochs=3)
    saving.best_model_path = str(tmp_path / "early.ckpt")
    Path(saving.best_model_path).write_text("the best")
    tell(trainer, "lkd test")
    assert "best.ckpt (by val/acc)" in capsys.readouterr().out
    assert (tmp_path / "best.ckpt").read_text() == "the best"
    last = torch.load(tmp_path / "last.ckpt")
    assert last["epoch"] == 2 and not (tmp_path / "last.ckpt").is_symlink()  # a file of its own


def test_who_says_what_is_kept_is_obeyed(tmp_path):
    chosen = ModelCheckpoint(tmp_path, save_last=False)
    far = ModelCheckpoint()
    loggers = [SimpleNamespace(save_dir="s3://bucket/runs")]
    keep_last(SimpleNamespace(checkpoint_callbacks=[chosen, far], loggers=loggers, default_root_dir="."))
    assert chosen.save_last is False and far.save_last is None


def test_a_file_of_ones_own_called_best_stays(tmp_path):
    for name in ("best.ckpt", "epoch=1.ckpt"):
        (tmp_path / name).write_text(name)
    assert link_best(tmp_path / "epoch=1.ckpt") == tmp_path / "epoch=1.ckpt"
    assert link_best(tmp_path / "best.ckpt").read_text() == "best.ckpt"


def test_the_newest_run_of_the_configuration_is_offered(here):
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": "runs", "name": "one"}}
    assert earlier({"logger": logger}) is None and earlier({}) is None
    for version, names in enumerate((["best.ckpt", "last.ckpt"], ["epoch=1.ckpt"])):
        folder = Path(f"runs/one/version_{version}/checkpoints")
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).touch()
            os.utime(folder / name, (version, version))
    assert earlier({"logger": logger}) == folder / "epoch=1.ckpt"
    (folder / "last.ckpt").touch()
    assert earlier({"logger": [logger]}) == folder / "last.ckpt"
    Path("elsewhere").mkdir()
    Path("elsewhere/best.ckpt").touch()
    saving = {"class_path": "ModelCheckpoint", "init_args": {"dirpath": "elsewhere"}}
    assert earlier({"logger": True, "callbacks": [saving]}) == Path("elsewhere/best.ckpt")


def test_the_next_command_has_the_options_but_no_checkpoint():
    given = ["fit", "--config", "a b.yaml", "--ckpt_path=x", "--save_as", "y", "--data.seed=1"]
    assert command("test", given).endswith(" test --config 'a b.yaml' --data.seed=1")
