"""The supervised twin: its configuration, its run and when there is none."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from torch import nn

from lkd.datamodules import Digits
from lkd.modules import Classifier
from lkd.twin import SupervisedTwin, twin_of

RUN = {
    "seed_everything": 3,
    "supervised_twin": True,
    "ckpt_path": "x.ckpt",
    "save_as": "student.ckpt",
    "distillation": {"class_path": "LogitDistillation"},
    "data": {"class_path": "D", "init_args": {"unlabeled": True, "data": {"init_args": {"unlabeled": True, "a": 1}}}},
    "trainer": {
        "max_epochs": 2,
        "logger": {"class_path": "WandbLogger"},
        "callbacks": [
            {"class_path": "ModelCheckpoint", "init_args": {"dirpath": "runs/mine", "filename": "best"}},
            {"class_path": "DetectionReport", "init_args": {"folder": "here", "before": True, "pictures": 2}},
        ],
    },
}  # fmt: skip


def test_the_twin_is_the_run_with_labels_and_without_a_teacher():
    twin = twin_of(RUN, "runs/one/version_0")
    assert twin["distillation"] is None and twin["supervised_twin"] is False and twin["ckpt_path"] is None
    assert twin["save_as"] is None  # where the student is saved
    assert twin["data"]["init_args"] == {
        "unlabeled": False,
        "data": {"init_args": {"unlabeled": False, "a": 1}},
    }
    assert twin["trainer"]["logger"]["init_args"] == {
        "save_dir": "runs/one/version_0",
        "name": "",
        "version": "twin",
    }
    # nothing of the run itself is written over, and the rest is the same
    assert [c["init_args"] for c in twin["trainer"]["callbacks"]] == [{"filename": "best"}, {"pictures": 2}]
    assert twin["seed_everything"] == 3 and twin["trainer"]["max_epochs"] == 2 and RUN["supervised_twin"]


def test_a_run_that_learns_from_labels_has_no_twin():
    with pytest.raises(ValueError, match="this one learns from labels itself"):
        twin_of({**RUN, "distillation": None}, "runs")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A Trainer's run whose twin is only written down."""
    done = SimpleNamespace(wrong=None, configs=[], options=[], threads=[], events=[], failed=False)

    class Fit:
        def __init__(self, config, mark, *options, threads=None):
            done.configs.append(yaml.safe_load(Path(config).read_text()))
            done.options.append(options)
            done.threads.append((threads, torch.get_num_threads()))
            done.events.append("begun")

        @property
        def failed(self):
            return done.failed

        def wrong(self):
            done.events.append("waited for")
            return done.wrong

        def end(self):
            done.events.append("ended")

    class Student(Classifier):
        def training_step(self, batch, batch_idx):
            done.events.append(f"step with {torch.get_num_threads()}")
            if done.failed == "itself":
                raise ArithmeticError("of the run")
            return super().training_step(batch, batch_idx)

    monkeypatch.setattr("lkd.twin.Fit", Fit)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(RUN))
    before = torch.get_num_threads()

    def start(ckpt_path=None, at_once=1, **options):
        torch.set_num_threads(at_once)
        options = {"logger": True, "enable_checkpointing": False, "enable_model_summary": False, **options}
        trainer = Trainer(max_epochs=1, accelerator="cpu", enable_progress_bar=False, limit_train_batches=1, limit_val_batches=0,
                          default_root_dir=tmp_path, callbacks=[SupervisedTwin()], **options)  # fmt: skip
        monkeypatch.setattr(type(trainer), "log_dir", str(tmp_path))
        monkeypatch.setattr(type(trainer), "ckpt_path", ckpt_path)
        try:
            trainer.fit(Student(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), num_classes=10), Digits())
            done.events.append("saved and tested")
            trainer.callbacks[0].check()
        finally:
            assert torch.get_num_threads() == at_once

    done.start = start
    yield done
    torch.set_num_threads(before)


def test_with_one_thread_it_runs_before_the_run_itself(run, tmp_path):
    run.start()
    assert run.configs == [twin_of(RUN, str(tmp_path))]
    assert run.events == ["begun", "waited for", "step with 1", "saved and tested"]


def test_with_several_it_runs_beside_it_and_is_waited_for(run):
    run.start(at_once=3)
    assert run.threads == [(1, 3)] and run.events == [
        "begun",
        "step with 2",
        "waited for",
        "saved and tested",
    ]


def test_a_run_that_goes_on_takes_the_twin_of_before(run, tmp_path, monkeypatch):
    before = tmp_path / "before"
    (before / "twin/report").mkdir(parents=True)
    (before / "twin/report/table.csv").write_text("Role\n")
    for same in (True, False):
        twin = twin_of(RUN, str(before))
        twin["seed_everything"] += not same
        (before / "twin.yaml").write_text(yaml.safe_dump(twin))
        run.start(ckpt_path=before / "checkpoints/last.ckpt")
        assert (tmp_path / "twin/report/table.csv").is_file() and len(run.configs) == (0 if same else 1)
    assert run.options == [()]


def test_a_twin_that_was_interrupted_goes_on_with_its_run(run, tmp_path):
    before = tmp_path / "before"
    (before / "twin/checkpoints").mkdir(parents=True)
    (before / "twin/checkpoints/interrupted.ckpt").touch()
    (before / "twin.yaml").write_text(yaml.safe_dump(twin_of(RUN, str(before))))
    run.start(ckpt_path=before / "checkpoints/interrupted.ckpt")
    assert run.options == [(f"--ckpt_path={before}/twin/checkpoints/interrupted.ckpt",)]


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_twin_that_fails_ends_the_run(run, at_once):
    run.wrong, run.failed = "failed with exit code 2", True
    with pytest.raises(RuntimeError, match=r"failed with exit code 2; it is fit --config .*twin\.yaml"):
        run.start(at_once=at_once)
    assert run.events == ["begun", *["step with 1"] * (at_once - 1), "waited for"]


def test_a_twin_that_fails_at_the_very_end_costs_nothing_of_the_run(run):
    run.wrong = "failed with exit code 2"
    with pytest.raises(RuntimeError, match="failed with exit code 2"):
        run.start(at_once=2)
    assert run.events == ["begun", "step with 1", "waited for", "saved and tested"]


def test_a_run_that_fails_ends_its_twin(run):
    run.failed = "itself"
    with pytest.raises(ArithmeticError):
        run.start(at_once=2)
    assert run.events == ["begun", "step with 1", "ended"]


def test_without_a_folder_there_can_be_none(run):
    with pytest.raises(ValueError, match="supervised_twin=true writes into the run's folder"):
        run.start(logger=False)
    run.start(fast_dev_run=True)  # which writes nothing
    assert not run.configs
