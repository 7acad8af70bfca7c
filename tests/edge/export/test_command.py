"""`python cli.py export`, from a configuration to a file."""

from pathlib import Path

import pytest
import torch
import yaml

from lkd.cli import main
from lkd.datamodules import Digits
from lkd.edge import Exported
from lkd.models import MLP
from lkd.modules import Classifier, MultiHeadClassifier

from ..students import save

pytestmark = pytest.mark.usefixtures("quick")
CONFIG = {
    "seed_everything": 3,
    "model": {
        "class_path": "Classifier",
        "init_args": {
            "network": {"class_path": "lkd.models.MLP", "init_args": {"features": 64, "classes": 10, "hidden": [6]}}
        },
    },
    "data": {"class_path": "Digits", "init_args": {"batch_size": 200}},
    # making this teacher would fail, so none is made
    "distillation": {"class_path": "LogitDistillation", "init_args": {"teacher": {"model": "gone.ckpt"}}},
    "trainer": {"accelerator": "cpu", "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "x", "name": "one"}}},
}  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the verb in an empty folder that holds the configuration and a checkpoint."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    module = Classifier(MLP(64, 10, hidden=[6]))
    save(module, "x.ckpt")
    Path("c.yaml").write_text(yaml.safe_dump(CONFIG))

    def call(*options, ckpt="x.ckpt"):
        given = [] if ckpt is None else ["--ckpt_path", ckpt]
        main(["export", "--config", "c.yaml", *given, *options])
        return module.eval()

    return call


def test_a_file_and_a_card_and_a_line_of_it(run, capsys):
    module = run("--format", "onnx", "--licenses.data=CC-BY-4.0", "--licenses.teacher=MIT")
    student = Exported("runs/one/export/student.onnx")
    data = Digits()
    data.setup()
    x = data.datasets["test"].tensors[0][:3]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(student(x.numpy())), module(x))
    card, shown = student.card, capsys.readouterr().out
    assert "student.onnx" in shown and "p95" in shown and "runs/one/export/student.json" in shown
    assert card["licenses"]["data"] == "CC-BY-4.0" and card["licenses"]["teacher"] == "MIT"
    assert card["provenance"]["seed"] == 3
    config = card["provenance"]["config"]
    assert config["data"]["init_args"]["batch_size"] == 200 and "max_drop" not in config
    assert not Path("x").exists()  # no run was begun


def test_options(run):
    run("--folder=here", "--trainer.limit_test_batches=1", "--classes=[a,b,c,d,e,f,g,h,i,j]", "--threads=2")
    card = Exported("here/student.onnx").card
    assert card["metrics"]["samples"] == 200 and card["latency"]["threads"] == 2
    assert card["student"]["classes"][:2] == ["a", "b"]


def test_hyper_parameters_are_the_checkpoints(run):
    """As in Lightning's own verbs: this checkpoint is of a wider network than the configuration."""
    network = {"class_path": "lkd.models.MLP", "init_args": {"features": 64, "classes": 10, "hidden": [9]}}
    hyper = {
        "_class_path": "lkd.modules.Classifier",
        "_instantiator": "x",
        "network": network,
        "num_classes": 10,
    }
    save(Classifier(MLP(64, 10, hidden=[9])), "wide.ckpt", hyper_parameters=hyper)
    run(ckpt="wide.ckpt")
    assert Exported("runs/one/export/student.onnx").card["size"]["parameters"] == 64 * 9 + 9 + 90 + 10


@pytest.mark.parametrize(("options", "ckpt", "sentence"), [
    ([], None, "give --ckpt_path and the path of a checkpoint"),
    ([], "gone.ckpt", "ckpt_path='gone.ckpt' does not exist"),
    ([], "heads.ckpt", r"is of the class lkd\.modules\.MultiHeadClassifier, and the model is lkd\.modules\.Classifier"),
    (["--data.fractions=[0.8,0.2,0.0]"], "x.ckpt", "the test split is empty"),
    (["--max_drop=-1"], "x.ckpt", "max_drop=-1"),
])  # fmt: skip
def test_one_sentence(run, options, ckpt, sentence):
    other = MultiHeadClassifier(MLP(64, 8), num_classes=10, heads=1, example=[1, 8, 8])
    save(other, "heads.ckpt", hyper_parameters={"_class_path": "lkd.modules.MultiHeadClassifier"})
    with pytest.raises(SystemExit, match=sentence):
        run(*options, ckpt=ckpt)


def test_an_unknown_format_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("--format=tflite")
    assert "onnx" in capsys.readouterr().err


def test_a_checkpoint_imports_nothing_on_its_own_word(run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    Path("marks.py").write_text("open('marker', 'w')")
    hyper = {
        "_class_path": "lkd.modules.Classifier",
        "network": {"class_path": "marks.Net"},
        "num_classes": 10,
    }
    save(Classifier(MLP(64, 10)), "marked.ckpt", hyper_parameters=hyper)
    with pytest.raises(SystemExit, match=r"names marks\.Net, .*allow it by --trust\+=marks"):
        run(ckpt="marked.ckpt")
    assert not Path("marker").exists()
