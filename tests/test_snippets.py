"""The Python of README and docs runs as it is pasted: every page from top to bottom, in a file of its own."""

import re
import sys
import types
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from .short_runs import shortened

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.M | re.S)
ELSEWHERE = "deploy.md"  # a script for a device without torch, which tests/edge/test_deploy.py runs
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
    if page.name != ELSEWHERE and BLOCK.search(page.read_text("utf-8"))
]


@pytest.fixture
def short(monkeypatch, tmp_path):
    """Runs are two batches long, and write into a folder of their own; nothing else is changed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Trainer, "__init__", shortened(Trainer.__init__))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page, short, monkeypatch):
    text = page.read_text(encoding="utf-8")
    module = types.ModuleType("a_users_file")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # classes of it are found by their path
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start(1))
        exec(compile("\n" * line + found[1], str(page), "exec"), module.__dict__)


def test_a_block_of_a_list_is_not_forgotten():
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        text = page.read_text(encoding="utf-8")
        assert len(re.findall(r"```py", text)) == len(BLOCK.findall(text)), page.name
