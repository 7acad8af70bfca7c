"""`python cli.py compress`, from a configuration to a file and a table."""

from pathlib import Path

import pytest
import torch
import yaml

from lkd.cli import main
from lkd.edge import Exported
from lkd.edge.compress.command import with_student
from lkd.leaderboard import read_study
from lkd.models import MLP
from lkd.modules import Classifier

from ..export.test_command import CONFIG
from ..students import save

pytestmark = pytest.mark.usefixtures("quick")
STEPS = {
    "student": "student.yaml",
    "ckpt_path": "x.ckpt",
    "limits": {"max_drop": 0.5, "allow_slower": True},
    "steps": [{"class_path": "lkd.edge.compress.Quantize", "init_args": {"calibration": 8}}],
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save(Classifier(MLP(64, 10, hidden=[6])), "x.ckpt")
    Path("student.yaml").write_text(yaml.safe_dump(CONFIG))
    Path("c.yaml").write_text(yaml.safe_dump(STEPS))


def test_the_students_configuration_is_read_first(here, capsys):
    main(["compress", "--config", "c.yaml", "--classes=[a,b,c,d,e,f,g,h,i,j]"])
    card = Exported("runs/one/compress/student.onnx").card
    assert card["compression"]["stage"] == "1 quantize" and card["student"]["classes"][0] == "a"
    assert card["provenance"]["seed"] == 3
    assert card["provenance"]["config"]["steps"][0]["init_args"]["calibration"] == 8
    shown = capsys.readouterr().out
    study = read_study(Path("runs/one/compress"))
    assert [row["method"] for row in study.rows] == ["0 parent", "1 quantize"] and study.seeds == (3,)
    assert study.metric == "acc" and all(row["MB"] > 0 for row in study.rows)
    assert "1 quantize: test/acc" in shown and "runs/one/compress/student.onnx" in shown
    assert not Path("x").exists()  # no run was begun


def test_options_and_a_folder(here):
    given = ["--folder=out", "--limits.threads=1", "--trainer.limit_test_batches=1", "--steps.calibration=4"]
    main(["compress", "--config", "c.yaml", *given])
    card = Exported("out/student.onnx").card
    assert card["metrics"]["samples"] == 200 and card["compression"]["steps"][0]["calibration"] == 4


def test_the_trainer_of_steps_has_the_configurations_options_and_others_over_them(here, monkeypatch):
    found = {}

    def compress(*args, trainer, **kwargs):
        found["made"] = trainer(max_epochs=3, logger=False)
        return [Path("student.onnx")]

    monkeypatch.setattr("lkd.edge.compress.command.compress", compress)
    monkeypatch.setattr("lkd.edge.compress.command._record", lambda *_: None)  # nothing is measured
    main(["compress", "--config", "c.yaml", "--trainer.max_epochs=9", "--trainer.gradient_clip_val=2.5",
          "--trainer.callbacks+=lkd.callbacks.EMA"])  # fmt: skip
    made = found["made"]
    assert made.max_epochs == 3 and made.gradient_clip_val == 2.5 and made.loggers == []
    assert type(made.strategy.checkpoint_io).__name__ == "Checkpoints"
    assert any(type(callback).__name__ == "EMA" for callback in made.callbacks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--limits.max_mb=0"],
            "max_mb=0.0 must be above 0 and finite, or None for no limit: no file could meet it",
        ),
        (["--ckpt_path=gone.ckpt"], "ckpt_path='gone.ckpt' does not exist"),
        (["--steps=[]"], "compress needs a step"),
        (["--ckpt_path=null"], "ckpt_path=None does not exist: give --ckpt_path"),
    ],
)
def test_mistakes_get_one_sentence(here, options, message):
    with pytest.raises(SystemExit) as ended:
        main(["compress", "--config", "c.yaml", *options])
    assert message in str(ended.value)


def test_a_students_configuration_that_is_not_there(here):
    Path("c.yaml").write_text(yaml.safe_dump({**STEPS, "student": "gone.yaml"}))
    with pytest.raises(FileNotFoundError, match=r"student='gone.yaml' of c.yaml does not exist"):
        with_student(["--config=c.yaml"])
    assert with_student(["--config", "student.yaml", "--a=b"]) == ["--config", "student.yaml", "--a=b"]


@pytest.mark.parametrize("given", [["--student=student.yaml"], ["--student", "student.yaml"]])
def test_a_students_configuration_of_the_command_line_wins(here, given):
    Path("c.yaml").write_text(yaml.safe_dump({**STEPS, "student": "gone.yaml"}))
    assert with_student(["--config=c.yaml", *given]) == [
        "--config",
        "student.yaml",
        "--config=c.yaml",
        *given,
    ]
    with pytest.raises(FileNotFoundError, match=r"student='away.yaml' does not exist"):
        with_student(["--config=c.yaml", "--student=away.yaml"])
    assert with_student(["--config=c.yaml", "--student=null"]) == ["--config=c.yaml", "--student=null"]


def test_a_configuration_that_is_no_yaml(here):
    Path("broken.yaml").write_text("student: student.yaml\nsteps: {macs: 0.6\nlimits: 3\n")
    with pytest.raises(SystemExit, match=r"ValueError: --config broken\.yaml is no YAML: .*line 2"):
        main(["compress", "--config", "broken.yaml"])
