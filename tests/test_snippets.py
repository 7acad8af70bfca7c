"""The Python of README and docs runs as it is pasted: every page from top to bottom, in a file of its own."""

import functools
import re
import sys
import types
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.M | re.S)
PAGES = [
    p for p in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))) if BLOCK.search(p.read_text("utf-8"))
]
SHORT = {
    "max_epochs": 1,
    "limit_train_batches": 2,
    "limit_val_batches": 1,
    "limit_test_batches": 1,
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@pytest.fixture
def short(monkeypatch, tmp_path):
    """Runs are two batches long, and write into a folder of their own; nothing else is changed."""
    monkeypatch.chdir(tmp_path)
    original = Trainer.__init__

    @functools.wraps(original)
    def init(self, *args, **kwargs):
        no_validation = {"limit_val_batches": 0} if kwargs.get("limit_val_batches") == 0 else {}
        original(self, *args, **{**kwargs, **SHORT, **no_validation})

    monkeypatch.setattr(Trainer, "__init__", init)


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
