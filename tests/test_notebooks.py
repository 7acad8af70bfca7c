"""The notebooks run from top to bottom, in a short form, and end with a picture."""

import json
import os
from pathlib import Path

import pytest

from .detectors import needs_yolo

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHORTER = {  # beside two batches for each Trainer: what stands in place of the cell that is tagged "parameters"
    "nine_cameras": "from tests.short_runs import short_study\nconfig, options = short_study('parking/oracle.yaml')",
    "student_to_camera": "max_drop = 2.0  # after two batches",
}
SHORT = {"nine_cameras": "", "": "from tests.short_runs import shorten\nshorten()"}
MARKS = {"nine_cameras": [needs_yolo, pytest.mark.slow]}  # the study is run by test_configs.py, too


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def all_notebooks(marked):
    return [pytest.param(p, id=p.stem, marks=MARKS.get(p.stem, []) if marked else []) for p in NOTEBOOKS]


@pytest.mark.parametrize("path", all_notebooks(marked=False))
def test_a_notebook_is_committed_without_outputs_and_shown(path):
    for cell in cells(path):
        assert not cell.get("outputs") and not cell.get("execution_count"), (
            "run: jupyter nbconvert --clear-output"
        )
    assert cells(path)[0]["source"][0].startswith("# "), "its page has a title"
    assert (ROOT / f"docs/pictures/notebooks/{path.stem}.png").is_file(), "run make notebooks"
    assert f"(../notebooks/{path.name})" in (ROOT / "docs/tutorials.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", all_notebooks(marked=True))
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="the extra `dev` runs notebooks")
    nbformat = pytest.importorskip("nbformat", reason="the extra `dev` runs notebooks")
    pytest.importorskip("ipykernel", reason="the extra `dev` runs notebooks")
    if path.stem == "student_to_camera":
        pytest.importorskip("onnxscript", reason="the extra `edge` exports")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    instead = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(instead) == (path.stem in SHORTER)
    for cell in instead:
        cell.source = SHORTER[path.stem]
    first = nbformat.v4.new_code_cell(SHORT.get(path.stem, SHORT[""]))
    notebook.cells.insert(0, first)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    last = notebook.cells[-1]
    assert any("image/png" in output.get("data", {}) for output in last.outputs), "no picture at its end"
