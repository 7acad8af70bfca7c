"""What is installed: every package of the tree, and nothing else."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LISTED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_every_package_is_listed_once():
    """The list is written down, because a search would follow the links of lkd/ on some systems and not on others."""
    folders = {
        "lkd": ROOT / "lkd",
        "lkd.datamodules": ROOT / "datamodules",
        "lkd.callbacks": ROOT / "callbacks",
    }
    found = [
        ".".join([name, *init.parent.relative_to(folder).parts])
        for name, folder in folders.items()
        for init in folder.rglob("__init__.py")
        if name != "lkd" or not {"datamodules", "callbacks"} & set(init.relative_to(folder).parts[:1])
    ]
    assert sorted(LISTED["packages"]) == sorted(found)
    assert LISTED["package-dir"] == {"lkd.datamodules": "datamodules", "lkd.callbacks": "callbacks"}


def test_every_file_lies_in_a_package():
    for folder in ("lkd", "datamodules", "callbacks"):
        for path in (ROOT / folder).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), path
