"""What is installed: every package of the tree, its configs and its types, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import lkd

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "lkd": "lkd",
    "lkd/datamodules": "datamodules",
    "lkd/callbacks": "callbacks",
    "lkd/configs": "configs",
}
LINKS = ("datamodules", "callbacks")
BUILD = "import setuptools.build_meta as b, sys; print(b.build_wheel(sys.argv[1]))"


def in_tree():
    """What a wheel has to hold of the tree."""
    found = {"lkd/py.typed"}
    for name, folder in FOLDERS.items():
        kind = "*.yaml" if folder == "configs" else "*.py"
        paths = [path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob(kind)]
        found |= {f"{name}/{p.as_posix()}" for p in paths if folder != "lkd" or p.parts[0] not in LINKS}
    return found


def copy_of_tree(to, links):
    """Copies what is built from, with the links of lkd/ or with what Git writes where there are none."""
    for path in [ROOT / f for f in ("pyproject.toml", "setup.py", "README.md", "LICENSE")]:
        (to / path.name).write_bytes(path.read_bytes())
    for folder in FOLDERS.values():
        for path in (ROOT / folder).rglob("*"):
            inside = path.relative_to(ROOT)
            linked = folder == "lkd" and inside.parts[1] in LINKS
            if path.suffix in (".py", ".yaml", ".typed") and not linked:
                (to / inside).parent.mkdir(parents=True, exist_ok=True)
                (to / inside).write_bytes(path.read_bytes())
    for name in LINKS:
        if links:
            (to / "lkd" / name).symlink_to(f"../{name}")
        else:
            (to / "lkd" / name).write_text(f"../{name}")


@pytest.fixture(scope="module", params=[True, False], ids=["links", "no links"])
def wheel(request, tmp_path_factory):
    pytest.importorskip("setuptools", "77", reason="setuptools 77 builds the wheel")
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    copy_of_tree(tree, links=request.param)
    run = subprocess.run(
        [sys.executable, "-c", BUILD, out], cwd=tree, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return out / run.stdout.splitlines()[-1]


def test_the_wheel_holds_the_tree_and_its_version(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == in_tree()
    assert wheel.name.split("-")[1] == lkd.__version__


def test_every_file_lies_in_a_package():
    for folder in ("lkd", *LINKS):
        for path in (ROOT / folder).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), path


def installed(wheel, to):
    """Unpacks a wheel as an environment of its own has it, and returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", to], check=True)
    (site,) = (path for path in to.rglob("site-packages") if path.parent.parent.name != "lib64")
    zipfile.ZipFile(wheel).extractall(site)
    return site, to / ("Scripts" if sys.platform == "win32" else "bin") / "python"


def test_a_users_file_sees_types(wheel, tmp_path):
    mypy = pytest.importorskip("mypy.api")
    _, python = installed(wheel, tmp_path / "venv")
    (tmp_path / "mine.py").write_text(
        "from lkd.shipped import find\n\nreveal_type(find('a.yaml'))\nfind(3)\n"
    )
    options = [f"--python-executable={python}", "--config-file=", f"--cache-dir={tmp_path / 'cache'}"]
    said, _, _ = mypy.run([*options, str(tmp_path / "mine.py")])
    assert 'Revealed type is "pathlib.Path"' in said and 'incompatible type "int"' in said, said


def test_an_installed_lkd_has_its_configs(wheel, tmp_path):
    site, python = installed(wheel, tmp_path / "venv")
    ask = "from lkd import shipped; print(shipped.find('lkd:parking/oracle.yaml'))"
    run = subprocess.run([python, "-I", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(run.stdout.strip()) == site / "lkd/configs/parking/oracle.yaml"
