"""`lkd doctor` says what is there and what is wrong, also where next to nothing is installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lkd import __version__
from lkd.cli import main
from lkd.doctor import requirements
from lkd.doctor.imports import importable, links
from lkd.doctor.machine import machine
from lkd.doctor.requirements import Requirements

ROOT = Path(__file__).parents[2]


def test_here_lkd_can_run(capsys):
    main(["doctor"])
    text = capsys.readouterr().out
    assert "lkd can run." in text and "wrong:" not in text
    main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["wrong"], found["lkd"]) == (True, [], __version__)
    assert (
        found["packages"]["torch"]
        and found["extras"]["yolo"]["command"] == 'pip install "lightning-kd[yolo]"'
    )
    assert "dev" not in found["extras"] and found["machine"]["cores"] >= 1


def test_without_any_package_it_says_what_is_missing():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from lkd.cli import main; main(['doctor'])"
    run = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    assert 'wrong: torch is missing: pip install "torch>=2.7".' in run.stdout
    assert "wrong: packaging is missing" in run.stdout and 'pip install "lightning-kd[edge]"' in run.stdout


def test_a_malicious_version_ends_with_code_1(capsys, monkeypatch):
    known = requirements.version_of
    monkeypatch.setattr(requirements, "version_of", lambda n: "2.6.3" if n == "lightning" else known(n))
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    assert "wrong: lightning 2.6.3 was a malicious upload" in capsys.readouterr().out


def test_versions_are_compared():
    found = Requirements(["torch>=999", "torch>=1"], {"a": ["torch[b]>=1", "gone>=1"]})
    assert [each.stops for each in found.findings()] == [True]
    assert found.extras()["a"]["missing"] == ["gone>=1"]
    assert set(found.installed) == {"torch"}


def test_installed_metadata_says_the_same_as_the_repository(monkeypatch):
    if requirements.version_of(requirements.DISTRIBUTION) is None:
        pytest.skip("lkd is not installed")
    there = Requirements.read()
    monkeypatch.setattr(requirements, "PROJECT", Path("nowhere"))
    installed = Requirements.read()
    assert {*installed.packages()} == {*there.packages()} and {*installed.optional} == {*there.optional}
    assert installed.extras()["yolo"]["complete"] == there.extras()["yolo"]["complete"]


def test_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(requirements, "PROJECT", Path("nowhere"))
    monkeypatch.setattr(requirements, "DISTRIBUTION", "no-such-lkd")
    (found,) = Requirements.read().findings()
    assert "lkd's requirements are not known" in found.sentence


def test_a_link_that_became_a_file(tmp_path):
    (tmp_path / "callbacks").write_text("../callbacks")
    said = [each.sentence for each in links(tmp_path)]
    assert "callbacks is a text file in place of a link" in said[0] and "datamodules is missing" in said[1]
    assert not list(links())


def test_a_library_that_fails_at_its_import(tmp_path, monkeypatch):
    (tmp_path / "broken_build.py").write_text("raise RuntimeError('operator does not exist')")
    (tmp_path / "lacks_one.py").write_text("import no_such_module_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    said = [each.sentence for each in importable(("broken_build", "lacks_one", "no_such_library"))]
    assert said == [
        "broken_build cannot be imported: RuntimeError: operator does not exist",
        "lacks_one cannot be imported: No module named 'no_such_module_at_all'.",
    ]


def test_the_machine_is_told(tmp_path):
    there = machine(tmp_path)
    assert there["processor"] and there["threads"] >= 1 and there["free_disk_gb"] >= 0
    json.dumps(there)
