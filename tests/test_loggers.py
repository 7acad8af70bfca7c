"""One row a round in W&B, the experiment's own folder whatever logs beside it, and a name for every run."""

from pathlib import Path

import pytest
import wandb
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from wandb.sdk.wandb_run import Run

from lkd.artifacts import keep_artifact
from lkd.cli import main
from lkd.datamodules import Digits
from lkd.loggers import WandbRunLogger
from lkd.models import MLP
from lkd.modules import Classifier
from lkd.run_labels import labels

ROOT = Path(__file__).parents[1]
FEDAVG = str(ROOT / "configs/federated/digits_fedavg.yaml")


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """Rows and axes that W&B's client is given; nothing leaves the machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    rows, axes = [], {}
    log, define = Run.log, Run.define_metric

    def note(self, data, *args, **kwargs):
        rows.append(dict(data))
        log(self, data, *args, **kwargs)

    def axis(self, name, step_metric=None, **kwargs):
        axes[name] = step_metric
        return define(self, name, step_metric, **kwargs)

    monkeypatch.setattr(Run, "log", note)
    monkeypatch.setattr(Run, "define_metric", axis)
    yield rows, axes
    wandb.finish()


def fit(overlay, *options):
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    main(
        [
            "fit",
            "--config",
            FEDAVG,
            "--config",
            str(ROOT / f"configs/logging/{overlay}.yaml"),
            *quiet,
            *options,
        ]
    )


def test_a_round_is_a_row(sent):
    rows, axes = sent
    fit("wandb", "--trainer.max_epochs=3", "--test_after_fit=false")
    assert [row["round"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert {"bytes/up", "round/clients", "val/acc"} <= set(row)
    assert axes["*"] == "round"
    assert wandb.run.group == "FedAvg, Dirichlet(alpha=0.3)"
    assert set(wandb.run.tags) == {"FedAvg", "Dirichlet(alpha=0.3)", "seed 0"}
    assert [*Path("runs/digits_fedavg").glob("*/metrics.csv")], "the experiment keeps its own folder"


def test_a_resumed_round_goes_on_counting(sent):
    rows, _ = sent
    fit("wandb", "--trainer.max_epochs=1", "--test_after_fit=false")
    checkpoint = next(Path("runs").rglob("last.ckpt"))
    fit("wandb", "--trainer.max_epochs=2", "--test_after_fit=false", f"--ckpt_path={checkpoint}")
    assert [row["round"] for row in rows] == [1, 2]


def test_what_the_user_names_stays(sent):
    fit("wandb", "--trainer.max_epochs=1", "--test_after_fit=false", "--more_loggers.init_args.group=mine")
    assert wandb.run.group == "mine"


def test_without_a_federation_it_is_lightnings_logger(sent, tmp_path):
    rows, axes = sent
    module = Classifier(MLP(64, 10))
    trainer = Trainer(
        max_steps=2,
        logger=WandbRunLogger(save_dir=tmp_path / "new"),
        log_every_n_steps=1,
        limit_val_batches=0,
    )
    trainer.fit(module, Digits())
    assert [row["trainer/global_step"] for row in rows if "train/loss" in row] == [0, 1]
    assert axes["*"] == "trainer/global_step" and (tmp_path / "new" / "wandb").is_dir()


def test_a_saved_student_is_an_artifact(sent, monkeypatch):
    kept = []
    monkeypatch.setattr(Run, "log_artifact", lambda self, artifact, *a, **k: kept.append(artifact))
    fit("wandb", "--trainer.max_epochs=1", "--test_after_fit=false", "--save_as=student of mine.ckpt")
    (artifact,) = (each for each in kept if each.type == "model")  # W&B keeps its own list of the run's
    assert artifact.name == "student_of_mine"
    assert list(artifact.manifest.entries) == ["student of mine.ckpt"]


def test_a_checkpoint_with_the_secret_of_noise_is_no_artifact(sent, monkeypatch):
    pytest.importorskip("dp_accounting", reason='needs the extra: pip install "lightning-kd[privacy]"')
    kept = []
    monkeypatch.setattr(Run, "log_artifact", lambda self, artifact, *a, **k: kept.append(artifact.type))
    numbers = ["clip=1.0", "noise_multiplier=1.0", "delta=0.001", "secret=true"]
    fit(
        "wandb",
        "--trainer.max_epochs=1",
        "--test_after_fit=false",
        "--save_as=student.ckpt",
        "--model.algorithm.weighting=uniform",
        "--model.privacy=ClientDP",
        *(f"--model.privacy.{each}" for each in numbers),
    )
    assert Path("student.ckpt").is_file() and "model" not in kept


def test_loggers_that_keep_no_files_get_none(tmp_path):
    keep_artifact([CSVLogger(tmp_path)], "student", [tmp_path / "gone"])


def test_the_step_of_mlflow_counts_rounds_and_a_student_is_kept(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason='needs the extra: pip install "lightning-kd[mlflow]"')
    monkeypatch.chdir(tmp_path)
    fit("mlflow", "--trainer.max_epochs=3", "--test_after_fit=false", "--save_as=student.ckpt")
    assert [*Path("runs/digits_fedavg").glob("*/metrics.csv")], "the run keeps its own logger"
    client = mlflow.MlflowClient("sqlite:///runs/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("lkd").experiment_id])
    assert [each.step for each in client.get_metric_history(run.info.run_id, "val/acc")] == [0, 1, 2]
    assert [each.path for each in client.list_artifacts(run.info.run_id, "student")] == [
        "student/student.ckpt"
    ]


def test_the_step_of_tensorboard_counts_rounds(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason='needs the extra: pip install "lightning-kd[tensorboard]"')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    fit("tensorboard", "--trainer.max_epochs=3", "--test_after_fit=false")
    events = EventAccumulator(str(next(Path().glob("runs/tensorboard/version_0"))))
    events.Reload()
    assert [each.step for each in events.Scalars("val/acc")] == [0, 1, 2]
    assert [*Path("runs/digits_fedavg").glob("*/metrics.csv")], "the run keeps its own logger"


def test_labels_of_a_plain_run():
    config = {
        "model": {"class_path": "lkd.modules.Classifier"},
        "distillation": {"class_path": "lkd.callbacks.LogitDistillation"},
        "data": {"class_path": "lkd.datamodules.Digits", "init_args": {"seed": 1}},
        "seed_everything": True,
    }
    words = ["Classifier", "LogitDistillation", "Digits"]
    assert labels(config) == (", ".join(words), words)
