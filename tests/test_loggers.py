"""One row a round in W&B, the experiment's own folder whatever logs beside it, and a name for every run."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import wandb
from lightning.pytorch import Trainer
from wandb.sdk.wandb_run import Run

from lkd.cli import main
from lkd.datamodules import Digits
from lkd.loggers import WandbRunLogger
from lkd.models import MLP
from lkd.modules import Classifier
from lkd.run_labels import labels

ROOT = Path(__file__).parents[1]
FEDAVG = str(ROOT / "configs/federated/digits_fedavg.yaml")
NEEDED = {"tensorboard": "tensorboard", "mlflow": "mlflow"}


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
    (checkpoint,) = Path("runs").rglob("*.ckpt")
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


@pytest.mark.parametrize("overlay", ["tensorboard", "mlflow"])
def test_the_other_loggers_stand_beside_the_runs_own(overlay, tmp_path, monkeypatch):
    if find_spec(NEEDED[overlay]) is None:
        pytest.skip(f'needs the extra: pip install "lightning-kd[{overlay}]"')
    monkeypatch.chdir(tmp_path)
    fit(overlay, "--trainer.max_epochs=1", "--test_after_fit=false")
    assert [*Path("runs/digits_fedavg").glob("*/metrics.csv")]
    found = "runs/tensorboard/version_0/events*" if overlay == "tensorboard" else "runs/mlflow.db"
    assert [*Path().glob(found)]


def test_labels_of_a_plain_run():
    config = {
        "model": {"class_path": "lkd.modules.Classifier"},
        "distillation": {"class_path": "lkd.callbacks.LogitDistillation"},
        "data": {"class_path": "lkd.datamodules.Digits", "init_args": {"seed": 1}},
        "seed_everything": True,
    }
    words = ["Classifier", "LogitDistillation", "Digits"]
    assert labels(config) == (", ".join(words), words)
