"""Recipes that are followed at once: which, when, with how many threads, and what a failure does to the others."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock
from lightning.pytorch.accelerators import CPUAccelerator

from lkd.teachers.recipes import Recipes, together

CONFIG = {
    "model": {"init_args": {"start": "runs/start.ckpt", "start_recipe": "start.yaml", "network": "a.yaml"}},
    "distillation": [
        {"init_args": {"teacher": {"model": "runs/a.ckpt", "recipe": "a.yaml"}}},
        {"init_args": {"teacher": {"model": "runs/a.ckpt", "recipe": "a.yaml"}, "weight": 1.0}},
        {"init_args": {"teacher": {"model": "hub", "recipe": None}}},
    ],
}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Runs that meet: each waits until all of them have begun."""
    monkeypatch.chdir(tmp_path)
    for name in ("start", "a"):
        Path(f"{name}.yaml").write_text(f"{name}: 1")
    torch.set_num_threads(5)
    log = SimpleNamespace(threads=[], barrier=threading.Barrier(2), wrong={}, stopped=[])

    def fit(config, done, save, threads=None, stop=None):
        log.threads.append(threads)
        log.barrier.wait(30)
        if config not in log.wrong and log.wrong:
            log.stopped.append(stop.wait(30))
        Path(save.partition("=")[2]).write_text("trained")
        return log.wrong.get(config)

    monkeypatch.setattr("lkd.teachers.recipe.fit", fit)
    yield log
    torch.set_num_threads(1)


def trainer(accelerator=None, ckpt_path=None):
    accelerator = accelerator or CPUAccelerator()
    return SimpleNamespace(accelerator=accelerator, world_size=1, ckpt_path=ckpt_path)


def test_a_start_and_a_teacher_are_trained_at_once_with_half_of_the_threads_each(runs):
    callback = Recipes(CONFIG)
    callback.setup(trainer(), None, "test")
    callback.setup(trainer(accelerator=object()), None, "fit")  # where each is trained when it is needed
    assert not Path("runs").exists()
    callback.setup(trainer(), None, "fit")
    assert runs.threads == [2, 2] and Path("runs/start.ckpt").is_file() and Path("runs/a.ckpt").is_file()
    callback.setup(trainer(), None, "fit")
    assert len(runs.threads) == 2


def test_the_threads_do_not_depend_on_what_is_there_already(runs):
    Path("runs").mkdir()
    Path("runs/a.ckpt").write_text("mine")
    runs.barrier = threading.Barrier(1)
    Recipes(CONFIG).setup(trainer(), None, "fit")
    assert runs.threads == [2] and Path("runs/a.ckpt").read_text() == "mine"


def test_a_run_that_goes_on_needs_no_start(runs):
    runs.barrier = threading.Barrier(1)
    Recipes(CONFIG).setup(trainer(ckpt_path="x.ckpt"), None, "fit")
    assert runs.threads == [2] and not Path("runs/start.ckpt").exists()


def test_with_one_thread_each_waits_for_its_turn(runs):
    torch.set_num_threads(1)
    Recipes(CONFIG).setup(trainer(), None, "fit")
    assert not Path("runs").exists()


def test_one_that_fails_ends_the_others(runs):
    runs.wrong = {"a.yaml": "failed with exit code 1"}
    with pytest.raises(
        RuntimeError, match=r"training runs/a.ckpt failed with exit code 1: fit --config a.yaml"
    ):
        together([("start.yaml", Path("runs/start.ckpt")), ("a.yaml", Path("runs/a.ckpt"))], 2)
    assert runs.stopped == [True]


def test_one_that_fails_ends_the_wait_for_another_runs_lock(runs):
    Path("runs").mkdir()
    runs.wrong, runs.barrier = {"a.yaml": "failed with exit code 1"}, threading.Barrier(1)
    with FileLock("runs/start.ckpt.lock"), pytest.raises(RuntimeError, match=r"training runs/a\.ckpt failed"):
        together([("start.yaml", Path("runs/start.ckpt")), ("a.yaml", Path("runs/a.ckpt"))], 2)
    assert not Path("runs/start.ckpt").exists()
