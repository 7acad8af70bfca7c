"""Mistakes on the command line: one sentence each, with near names, and `None` for `null`."""

import sys
from pathlib import Path

import pytest
import yaml

from lkd.cli import main
from lkd.parser import sentence

DIGITS = str(Path(__file__).parents[1] / "configs/classification/digits.yaml")


def fails(capsys, *options, first=("fit", "--config", DIGITS)):
    with pytest.raises(SystemExit) as done:
        main([*first, *options])
    assert done.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--model=Clasifier", "error: model: there is no class 'Clasifier'; did you mean 'Classifier'"),
        ("--data=Digit", "error: data: there is no class 'Digit'; did you mean 'Digits'?"),
        ("--trainer.callbacks+=EMAA", "trainer.callbacks: there is no class 'EMAA'; did you mean 'EMA'?"),
        ("--trainer.logger=CSVLoger", "trainer.logger: there is no class 'CSVLoger'; did you mean 'CSVLogger'"),
        ("--model=Nothing", "there is no class 'Nothing'; one of your own needs its dotted path."),
        ("--model=lkd.modules.Clasifier", "has no attribute 'Clasifier'; did you mean 'Classifier'"),
        ("--model=nowhere.Net", "error: model: nowhere.Net: No module named 'nowhere'"),
        ("--distillation.temprature=2", "LogitDistillation: Option 'temprature' is not accepted; did you mean 'temperature'?"),
        ("--distillation.teacher.modell=x", "Teacher: Option 'modell' is not accepted; did you mean 'model'?"),
        ("--model.optimizer.init_args.lrr=1", "optimizer: Option 'lrr' is not accepted; did you mean 'lr'?"),
        ("--distilation.alpha=1", "error: unrecognized arguments: --distilation.alpha=1; did you mean 'distillation'?"),
        ("--trainer.max_epohcs=1", "--trainer.max_epohcs=1; did you mean 'trainer.max_epochs'"),
        ("my.yaml", "error: unrecognized arguments: my.yaml; did you mean '--config my.yaml'?"),
        ("--trainer.foo=1", "error: unrecognized arguments: --trainer.foo=1"),
        ("--model.num_classes=many", "num_classes: Expected a <class 'int'>. Got value: many"),
        ("--config=nowhere.yaml", "error: config: File does not exist:"),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_sentence(capsys, option, words):
    assert words in fails(capsys, option)


def test_a_module_in_the_folder_at_hand_is_found_by_python(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [each for each in sys.path if each])  # as of an installed script
    config = ("fit", "--config", str(Path(DIGITS).absolute()))
    assert "in this folder" not in fails(capsys, "--model=my_own_module.Net", first=config)
    Path("my_own_module.py").write_text("")
    line = fails(capsys, "--model=my_own_module.Net", first=config)
    assert "No module named 'my_own_module'; it is in this folder, where python -m lkd finds it" in line


def test_a_wrong_section_in_a_file_is_named(capsys, tmp_path):
    (tmp_path / "c.yaml").write_text("modle: {class_path: Classifier}\n")
    line = fails(capsys, first=("fit", "--config", str(tmp_path / "c.yaml")))
    assert "option 'modle" in line and "did you mean 'model'?" in line


def test_all_that_the_parser_says_is_there_when_asked_for(capsys, monkeypatch):
    monkeypatch.setenv("LKD_TRACEBACK", "1")
    with pytest.raises(SystemExit):
        main(["fit", "--config", DIGITS, "--model=Clasifier"])
    assert "usage:" in capsys.readouterr().err


def test_what_is_not_understood_is_passed_on():
    assert sentence("something\n  quite new") == "something quite new"


@pytest.mark.parametrize("null", ["null", "None"])
def test_null_reaches_nested_options(capsys, tmp_path, null):
    (tmp_path / "c.yaml").write_text(f"model: {{init_args: {{scheduler: {null}}}}}\n")
    with pytest.raises(SystemExit):
        main(["fit", "--config", DIGITS, "--config", str(tmp_path / "c.yaml"),
              f"--distillation.teacher={{model: 'x.ckpt', recipe: {null}, num_classes: 3}}",
              f"--distillation.teacher.class_map={null}", f"--distillation.teacher.recipe={null}",
              "--print_config"])  # fmt: skip
    shown = yaml.safe_load(capsys.readouterr().out)
    teacher = shown["distillation"]["init_args"]["teacher"]["init_args"]
    assert (teacher["recipe"], teacher["class_map"], teacher["num_classes"]) == (None, None, 3)
    assert shown["model"]["init_args"]["scheduler"] is None
