"""A teacher's recipe: when it runs, when not, and what it says when it goes wrong."""

import logging
import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning.fabric.plugins.environments import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from lkd.teachers import Teacher
from lkd.teachers.recipe import follow

from ..test_configs import in_this_process

ROOT = Path(__file__).parents[2]
LAUNCHERS = {
    "RANK": "1", "LOCAL_RANK": "1", "NODE_RANK": "0", "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x",
    "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1234",
    "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_JOB_NAME": "train",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text("trainer: {max_epochs: 1}\n")
    return tmp_path


@pytest.fixture
def runs(folder, monkeypatch):
    """Replaces the teacher's run: `runs.saves` is written to the checkpoint (None: nothing)."""
    log = SimpleNamespace(commands=[], environments=[], code=0, saves="trained", killed=False, whole=True)

    def run(command, environment, done, stop):
        log.commands.append(command)
        log.environments.append(environment)
        if log.saves is not None:
            Path("runs").mkdir(exist_ok=True)
            Path("runs/teacher.ckpt").write_text(log.saves)
        if log.killed:
            raise KeyboardInterrupt
        if log.whole:
            done.touch()
        return log.code

    replace_child(monkeypatch, run)
    return log


def replace_child(monkeypatch, run):
    """A child that is a function; it runs when it is waited for."""

    class Child:
        def __init__(self, *given):
            self.given = given

        def wait(self, stop=None):
            return run(*self.given, stop)

    monkeypatch.setattr("lkd.teachers.recipe.Child", Child)


CHECKPOINT = Path("runs/teacher.ckpt")
OLD = Path("runs/teacher.ckpt.old")


def test_a_missing_teacher_is_trained_once(runs):
    for _ in range(3):
        follow("recipe.yaml", CHECKPOINT)
    fit = [sys.executable, "-m", "lkd", "fit", "--config", "recipe.yaml", "--save_as=runs/teacher.ckpt"]
    assert runs.commands == [fit]
    assert not OLD.exists()


def test_a_changed_recipe_trains_again_and_sets_the_old_teacher_aside(runs, caplog):
    follow("recipe.yaml", CHECKPOINT)
    Path("recipe.yaml").write_text("trainer: {max_epochs: 2}\n")
    runs.saves = "trained anew"
    with caplog.at_level(logging.WARNING, "lkd"):
        follow("recipe.yaml", CHECKPOINT)
    assert "runs/teacher.ckpt was made by another version of recipe.yaml" in caplog.text
    assert CHECKPOINT.read_text() == "trained anew" and OLD.read_text() == "trained"
    follow("recipe.yaml", CHECKPOINT)
    assert len(runs.commands) == 2


def test_the_recipe_counts_by_its_text_not_by_its_date(runs):
    follow("recipe.yaml", CHECKPOINT)
    os.utime("recipe.yaml", (1, 1))
    Path("recipe.yaml").rename("same.yaml")
    follow("same.yaml", CHECKPOINT)
    assert len(runs.commands) == 1


def test_a_teacher_that_another_run_wrote_over_is_trained_again(runs, caplog):
    """As `fit` with the recipe and one epoch does."""
    follow("recipe.yaml", CHECKPOINT)
    CHECKPOINT.write_text("one epoch")
    follow("recipe.yaml", CHECKPOINT)
    assert CHECKPOINT.read_text() == "trained" and OLD.read_text() == "one epoch"
    assert len(runs.commands) == 2 and "by another run" in caplog.text


def test_a_users_own_checkpoint_is_taken_as_it_is(runs):
    CHECKPOINT.parent.mkdir()
    CHECKPOINT.write_text("my own")
    follow("recipe.yaml", CHECKPOINT)
    assert not runs.commands and CHECKPOINT.read_text() == "my own"
    assert [p.name for p in CHECKPOINT.parent.iterdir()] == ["teacher.ckpt"]


def test_a_failing_run_is_one_clear_error(runs):
    runs.code, runs.saves = 3, None
    with pytest.raises(
        RuntimeError, match=r"teacher\.ckpt failed with exit code 3: fit --config recipe\.yaml"
    ):
        follow("recipe.yaml", CHECKPOINT)


def test_a_run_that_saves_nothing_is_one_clear_error(runs):
    runs.saves = None
    with pytest.raises(RuntimeError, match=r"recipe='recipe\.yaml' was interrupted before it saved runs"):
        follow("recipe.yaml", CHECKPOINT)
    CHECKPOINT.write_text("put there by hand")  # then it is the user's own
    follow("recipe.yaml", CHECKPOINT)
    assert CHECKPOINT.read_text() == "put there by hand"


@pytest.mark.parametrize("how", ["failed", "killed", "ended early"])
def test_a_teacher_of_a_run_that_broke_off_is_not_taken_for_a_finished_one(runs, how):
    runs.saves, runs.code, runs.killed, runs.whole = "half", int(how == "failed"), how == "killed", False
    with pytest.raises((RuntimeError, KeyboardInterrupt)):
        follow("recipe.yaml", CHECKPOINT)
    assert CHECKPOINT.read_text() == "half"  # say, of its first epoch
    runs.saves, runs.code, runs.killed, runs.whole = "whole", 0, False, True
    follow("recipe.yaml", CHECKPOINT)
    assert CHECKPOINT.read_text() == "whole" and OLD.read_text() == "half"


def test_of_two_runs_one_trains_the_teacher_and_the_other_waits(folder, monkeypatch, caplog):
    started, trained = threading.Event(), []

    def run(command, environment, done, stop):
        trained.append(command)
        CHECKPOINT.write_text("half")  # of its first epoch: not what the other run waits for
        started.set()
        deadline = time.monotonic() + 30
        while "waiting for it" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        CHECKPOINT.write_text("whole")
        done.touch()
        return 0

    replace_child(monkeypatch, run)
    with caplog.at_level(logging.INFO, "lkd"):
        first = threading.Thread(target=follow, args=("recipe.yaml", CHECKPOINT))
        first.start()
        assert started.wait(30)
        follow("recipe.yaml", CHECKPOINT)
        assert CHECKPOINT.read_text() == "whole"
        first.join()
    assert "Another run is training runs/teacher.ckpt: waiting for it." in caplog.text
    assert len(trained) == 1 and not OLD.exists()


def test_the_run_does_not_take_itself_for_a_rank_of_ours(runs, monkeypatch):
    for name, value in LAUNCHERS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LKD_DATA", "somewhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert TorchElasticEnvironment.detect() and SLURMEnvironment.detect()
    follow("recipe.yaml", CHECKPOINT)
    (environment,) = runs.environments
    assert not {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} & environment.keys()
    assert environment["LKD_DATA"] == "somewhere" and environment["CUDA_VISIBLE_DEVICES"] == "0"
    for name in LAUNCHERS.keys() - environment.keys():
        monkeypatch.delenv(name)
    assert not TorchElasticEnvironment.detect() and not SLURMEnvironment.detect()  # asked of Lightning itself
    assert not LightningEnvironment().creates_processes_externally


def test_a_teacher_waits_for_prepare_before_it_trains(runs):
    Teacher("runs/teacher.ckpt", recipe="recipe.yaml")
    assert not runs.commands


@pytest.mark.parametrize("saves", ["by its ModelCheckpoint", "nothing"])
def test_a_real_recipe_makes_a_teacher_that_loads(folder, monkeypatch, saves):
    """A small run of the digits' own recipe, once in a process of its own."""
    config = yaml.safe_load((ROOT / "configs/classification/digits_teacher.yaml").read_text())
    config["model"]["init_args"]["network"] = "test_resnet"
    config["trainer"] |= {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1, "logger": False,
                          "limit_test_batches": 1, "enable_progress_bar": False}  # fmt: skip
    if saves == "nothing":  # its last weights are the teacher then
        config["trainer"] |= {"enable_checkpointing": False, "callbacks": None}
        monkeypatch.setattr("lkd.teachers.recipe.fit", in_this_process)
    Path("recipe.yaml").write_text(yaml.safe_dump(config))
    teacher = Teacher("runs/digits_teacher/teacher.ckpt", recipe="recipe.yaml")
    logits = teacher.prepare()(torch.zeros(2, 1, 8, 8))
    assert logits.shape == (2, 10)
    written = Path("runs/digits_teacher/teacher.ckpt")
    date = written.stat().st_mtime_ns
    again = Teacher(str(written), recipe="recipe.yaml").prepare()(torch.zeros(2, 1, 8, 8))
    assert torch.equal(logits, again) and written.stat().st_mtime_ns == date
