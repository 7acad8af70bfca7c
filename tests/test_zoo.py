"""The model zoo: every student's files are there, and one that is made has a file, a card and its row."""

import dataclasses
import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ZOO = runpy.run_path(str(ROOT / "release/zoo.py"))


def test_names_are_unique_and_configurations_exist():
    names = [student.name for student in ZOO["ZOO"]]
    assert len(names) == len(set(names)) >= 5
    assert all((ROOT / student.config).is_file() for student in ZOO["ZOO"])


def test_a_student_is_made_once_and_stands_on_the_page(tmp_path, capfd):
    pytest.importorskip("onnxruntime", reason="the extra edge is not installed")
    student = dataclasses.replace(
        ZOO["ZOO"][1], name="digits_short", export=("--only=[server]", "--max_drop=1")
    )
    quick = [
        "--trainer.max_epochs=1",
        "--trainer.callbacks=null",
        "--trainer.logger=false",
        f"--trainer.default_root_dir={tmp_path}",
    ]
    cards = ZOO["made"](student, tmp_path, [*quick, "--test_after_fit=false"])
    (card,) = (json.loads(path.read_text()) for path in cards)
    assert (tmp_path / "digits_short" / card["file"]).stat().st_size == card["size"]["bytes"]
    assert card["licenses"]["data"] == student.data
    page = ZOO["page"]({"digits_short": cards})
    accuracy = card["metrics"]["file"]["test/acc"]
    assert f"| test/acc {accuracy:.3f} |" in page and "[digits_short/student.onnx]" in page
    capfd.readouterr()
    assert ZOO["made"](student, tmp_path) == cards
    assert capfd.readouterr().out == "", "nothing is trained again"


def test_a_student_without_its_data_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ZOO["main"].__globals__, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"wrist needs data/har_spsw, which README\.md says where to get"):
        ZOO["main"](["wrist", "--folder", str(tmp_path / "zoo")])
    with pytest.raises(SystemExit):
        ZOO["main"](["wirst"])
    assert "there is no student 'wirst'" in capsys.readouterr().err
