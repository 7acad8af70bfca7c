"""The supervised twin: its configuration, its run and when there is none."""

from pathlib import Path
from types import SimpleNamespace

import pytest
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
    done = SimpleNamespace(wrong=None, configs=[])

    def fit(config, mark, *options):
        done.configs.append(yaml.safe_load(Path(config).read_text()))
        return done.wrong

    monkeypatch.setattr("lkd.twin.fit", fit)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(RUN))

    def start(ckpt_path=None, **options):
        options = {"logger": True, "enable_checkpointing": False, "enable_model_summary": False, **options}
        trainer = Trainer(max_epochs=1, accelerator="cpu", enable_progress_bar=False, limit_train_batches=1, limit_val_batches=0,
                          default_root_dir=tmp_path, callbacks=[SupervisedTwin()], **options)  # fmt: skip
        monkeypatch.setattr(type(trainer), "log_dir", str(tmp_path))
        monkeypatch.setattr(type(trainer), "ckpt_path", ckpt_path)
        trainer.fit(Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))), Digits())

    done.start = start
    return done


def test_it_runs_before_the_run_itself(run, tmp_path):
    run.start()
    assert run.configs == [twin_of(RUN, str(tmp_path))]


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


def test_a_twin_that_fails_ends_the_run_before_it_trains(run):
    run.wrong = "failed with exit code 2"
    with pytest.raises(RuntimeError, match=r"failed with exit code 2; it is fit --config .*twin\.yaml"):
        run.start()


def test_without_a_folder_there_can_be_none(run):
    with pytest.raises(ValueError, match="supervised_twin=true writes into the run's folder"):
        run.start(logger=False)
    run.start(fast_dev_run=True)  # which writes nothing
    assert not run.configs
