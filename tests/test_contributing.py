"""The recipes of CONTRIBUTING.md are followed literally: files are written as it says, and its commands run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n# (in )?(\S+\.py)\n(.*?)^```", flags=re.M | re.S)
COMMAND = re.compile(r"^    python (-m pytest .*)$", flags=re.M)
RECIPES = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")[1:] if BLOCK.search(part)}
NOT_COPIED = (".git", ".venv", "data", "runs", "build", "dist", ".*_cache", "__pycache__", "*.egg-info")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the repository in which all recipes are followed, each file a new one."""
    tree = tmp_path_factory.mktemp("tree") / "lkd"
    shutil.copytree(ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
    for add, path, text in BLOCK.findall(PAGE):
        before = (tree / path).read_text(encoding="utf-8") if add else ""
        assert add or not (tree / path).exists(), f"{path} is there already"
        (tree / path).write_text(before + text, encoding="utf-8")
    return tree


def run(tree, *words):
    environment = os.environ | {"PYTHONPATH": str(tree), "LKD_DATA": "nowhere"}
    done = subprocess.run(
        [sys.executable, *words], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return done.stdout


def test_there_are_four_and_every_block_is_one_of_a_file():
    assert list(RECIPES) == ["A loss", "An algorithm", "A data set", "An engine"]
    assert len(BLOCK.findall(PAGE)) == PAGE.count("```") // 2 == 12


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe(tree, name):
    (command,) = COMMAND.findall(RECIPES[name])
    said = run(tree, *shlex.split(command), "-q", "-p", "no:cacheprovider")
    assert re.search(r"\d+ passed", said)


def test_they_have_the_projects_style(tree):
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent))
    if ruff is None:
        pytest.skip("ruff is not installed")
    files = [path for add, path, _ in BLOCK.findall(PAGE) if not add]
    for words in (["check"], ["format", "--check"]):
        done = subprocess.run([ruff, *words, *files], cwd=tree, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_what_they_add_can_be_taken(tree):
    names = (
        "from lkd.losses import LogCosh; from lkd.federated import FedSign; from lkd.datamodules import Wine"
    )
    assert str(tree) in run(tree, "-c", f"{names}; import lkd; print(lkd.__file__)")
