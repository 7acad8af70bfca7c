"""What a release is made of: notes from the changelog, a wheel and a source distribution, pinned packages."""

import io
import re
import runpy
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
NOTES, CHECK = (runpy.run_path(str(ROOT / "release" / name)) for name in ("notes.py", "check.py"))
LOCK = ROOT / ".github/requirements.txt"
CHANGELOG = "# Changelog\n\n## Unreleased\n\n## 0.2.0 - 2026-12-01\n\n### Added\n- New.\n\n## 0.1.0 - 2026-06-01\n\n- First.\n"


def test_notes_are_the_part_of_the_version():
    assert NOTES["notes"](CHANGELOG, "0.2.0") == "### Added\n- New.\n"
    assert NOTES["notes"](CHANGELOG, "0.1.0") == "- First.\n"


def test_a_version_without_notes_is_refused():
    with pytest.raises(ValueError, match=r"nothing of lkd 0\.3\.0; it has Unreleased, 0\.2\.0, 0\.1\.0"):
        NOTES["notes"](CHANGELOG, "0.3.0")


def test_entries_of_no_version_are_refused():
    late = CHANGELOG.replace("## Unreleased\n", "## Unreleased\n\n- Later.\n")
    with pytest.raises(ValueError, match="entries under Unreleased"):
        NOTES["notes"](late, "0.2.0")


def dist(folder, source=(), wheel=("lkd/cli.py",), version="0.2.0"):
    """Files named and filled as those that are built."""
    folder.mkdir()
    with zipfile.ZipFile(folder / f"lightning_kd-{version}-py3-none-any.whl", "w") as file:
        for name in (*wheel, f"lightning_kd-{version}.dist-info/METADATA"):
            file.writestr(name, "")
    with tarfile.open(folder / "lightning_kd-0.2.0.tar.gz", "w:gz") as file:
        for name in source:
            file.addfile(tarfile.TarInfo(f"lightning_kd-0.2.0/{name}"), io.BytesIO())
    return folder


def test_what_is_built_is_whole_and_brings_nothing_else(tmp_path):
    needed = CHECK["NEEDED"]
    wheel, source = CHECK["files"](dist(tmp_path / "whole", needed))
    assert wheel.suffix == ".whl" and source.name.endswith(".tar.gz")
    with pytest.raises(ValueError, match=r"lacks setup\.py"):
        CHECK["files"](dist(tmp_path / "a", [name for name in needed if name != "setup.py"]))
    with pytest.raises(ValueError, match="would install callbacks, tests beside lkd"):
        CHECK["files"](dist(tmp_path / "b", needed, ["lkd/cli.py", "tests/x.py", "callbacks/report.py"]))
    with pytest.raises(ValueError, match="two versions"):
        CHECK["files"](dist(tmp_path / "c", needed, version="0.3.0"))
    with pytest.raises(ValueError, match="0 wheels and 0 source"):
        CHECK["files"](tmp_path)


def test_modules_are_those_that_import_without_extras(tmp_path):
    names = ["lkd/__init__.py", "lkd/__main__.py", "lkd/losses/kd.py", "lkd/flare/camera.py", "lkd/a.yaml"]
    wheel, _ = CHECK["files"](dist(tmp_path / "d", CHECK["NEEDED"], names))
    assert CHECK["modules"](wheel) == ["lkd", "lkd.losses.kd"]


def pins():
    found = re.findall(r"^([\w.-]+)==([^ ;\\\n]+)", LOCK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in found}


def test_every_package_of_the_project_is_pinned_within_its_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["yolo"]]
    for requirement in map(Requirement, extras["dev"]):
        own = requirement.name == project["name"]
        asked += [each for name in requirement.extras for each in extras[name]] if own else [str(requirement)]
    pinned = pins()
    for requirement in map(Requirement, asked):
        version = pinned.get(requirement.name.lower().replace("_", "-"))
        assert version is not None, f"{requirement.name} is not pinned: make lock"
        assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}: make lock"


def test_every_pin_has_a_hash():
    blocks = re.split(r"^(?=[\w.-]+==)", LOCK.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert len(blocks) > 50 and all("--hash=sha256:" in block for block in blocks)
