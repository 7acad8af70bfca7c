"""`python cli.py cache`: a store is filled before training, listed, tested and shrunk."""

import copy
from pathlib import Path

import pytest
import torch
import yaml

from lkd.cli import main
from lkd.edge.cache import Store
from lkd.models import MLP
from lkd.modules import Classifier

from ..students import save

NETWORK = {"class_path": "lkd.models.MLP", "init_args": {"features": 64, "classes": 10, "hidden": [6]}}
TEACHER = {"class_path": "CachedTeacher", "init_args": {"model": "teacher.ckpt", "cache": "kept"}}
CONFIG = {
    "seed_everything": 3,
    "model": {"class_path": "Classifier", "init_args": {"network": NETWORK}},
    "data": {"class_path": "Digits", "init_args": {"batch_size": 100}},
    "distillation": {"class_path": "LogitDistillation", "init_args": {"teacher": TEACHER}},
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 1,
        "limit_train_batches": 2,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "x", "name": "one"}},
        "callbacks": [{"class_path": "ModelCheckpoint", "init_args": {"dirpath": "saved"}}],
    },
}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A configuration in an empty folder, beside its teacher's checkpoint."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    hyper = {
        "_class_path": "lkd.modules.Classifier",
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
    }
    hyper |= {"network": NETWORK, "num_classes": 10}
    save(Classifier(MLP(64, 10, hidden=[6])), "teacher.ckpt", hyper_parameters=hyper)
    Path("c.yaml").write_text(yaml.safe_dump(CONFIG))
    return copy.deepcopy(CONFIG)


def cache(*words):
    main(["cache", *words[:1], "--config", "c.yaml", *words[1:]])


def test_build_stat_verify_and_prune(config, capsys):
    with pytest.raises(SystemExit, match="cache='kept' holds no answers yet; cache build"):
        cache("stat")
    cache("build")
    assert "200 samples; 0 of them were in kept already, and 200 were asked about." in capsys.readouterr().out
    assert not Path("x").exists() and not Path("saved").exists()  # no run was begun
    cache("build")  # goes on where it ended: here, nowhere
    assert "200 samples; 200 of them were in kept already, and 0 were asked about." in capsys.readouterr().out
    cache("verify", "--share=0.5")
    assert "answers of kept were asked again, and are what the teacher says." in capsys.readouterr().out
    cache("stat")
    shown = capsys.readouterr().out
    (row,) = Store("kept").stat()
    assert row["fingerprint"][:8] in shown and "200" in shown and row["name"] == "teacher.ckpt"
    main(["fit", "--config", "c.yaml", "--trainer.max_epochs=1", "--test_after_fit=false"])
    assert Store("kept").stat()[0]["misses"] == 200  # of the first build alone
    cache("prune", "--limit_mb=0.01")
    assert 0 < Store("kept").stat()[0]["answers"] < 200
    cache("prune", f"--teacher={row['fingerprint'][:6]}")
    assert Store("kept").stat() == []


def test_a_folder_is_enough_to_list_and_to_shrink(config, capsys):
    cache("build")
    Path("c.yaml").unlink()
    capsys.readouterr()
    main(["cache", "stat", "--cache", "kept"])
    (row,) = Store("kept").stat()
    assert row["fingerprint"][:8] in capsys.readouterr().out
    main(["cache", "prune", "--cache=kept", "--limit_mb=0.01"])
    assert "answers dropped from kept." in capsys.readouterr().out
    assert 0 < Store("kept").stat()[0]["answers"] < 200
    with pytest.raises(SystemExit, match="cache='gone' holds no answers yet"):
        main(["cache", "stat", "--cache=gone"])
    assert not Path("gone").exists()
    with pytest.raises(SystemExit):
        main(["cache", "stat", "--cache=kept", "--limit_mb=1"])  # stat shrinks nothing
    assert "limit_mb" in capsys.readouterr().err


def test_build_takes_callbacks_that_have_a_teacher_and_waits_for_no_metric(config):
    config["trainer"]["callbacks"].append(config.pop("distillation"))
    plateau = {"class_path": "lightning.pytorch.cli.ReduceLROnPlateau", "init_args": {"monitor": "val/loss"}}
    config["model"]["init_args"]["scheduler"] = plateau
    Path("c.yaml").write_text(yaml.safe_dump(config))
    cache("build", "--epochs=2")
    (row,) = Store("kept").stat()
    assert row["answers"] == row["misses"] >= 200


def test_verify_fails_on_an_answer_that_is_not_the_teacher_s(config, tmp_path):
    cache("build")
    store = Store("kept")
    (count,) = store._connection.execute("SELECT COUNT(*) FROM answers").fetchone()
    rows = store._connection.execute("SELECT key, value FROM answers ORDER BY rowid").fetchall()
    (row,) = store.stat()
    wrong = {
        key: value[:-40] + torch.full((10,), 9.0).numpy().tobytes() for key, value in rows[count // 2 + 10 :]
    }
    store.put(wrong, row["fingerprint"], row["name"])  # a mark of its own: nothing is seen in the file
    store.close()
    with pytest.raises(
        SystemExit,
        match=r"answers of kept that were asked again are not what the teacher gives|holds other answers",
    ):
        cache("verify", "--share=1.0")


def test_wrong_uses_get_a_sentence(config):
    with pytest.raises(SystemExit, match="cache fill: give one of build, stat, verify, prune"):
        cache("fill")
    cache("build")
    with pytest.raises(SystemExit, match="cache prune: say what is dropped"):
        cache("prune")
    with pytest.raises(SystemExit, match="teacher='zz' is the begin of no fingerprint"):
        cache("prune", "--teacher=zz")
    with pytest.raises(SystemExit, match=r"--share=0.0 must be in \(0, 1\]"):
        cache("verify", "--share=0.0")
    config["distillation"]["init_args"]["teacher"] = {"model": "teacher.ckpt"}
    Path("c.yaml").write_text(yaml.safe_dump(config))
    for kind in ("build", "stat"):
        with pytest.raises(SystemExit, match="CachedTeacher; write teacher: "):
            cache(kind)
