"""One name, one meaning: no two classes of the library are called the same."""

import ast
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]


def classes(root):
    """Gives name and file of every top-level class."""
    for folder in ("lkd", "datamodules", "callbacks"):
        for path in sorted((root / folder).rglob("*.py")):
            file = path.relative_to(root)
            if file.parts[:2] not in (("lkd", "datamodules"), ("lkd", "callbacks")):  # links to the folders
                tree = ast.parse(path.read_text(encoding="utf-8"))
                yield from (
                    (node.name, file.as_posix()) for node in tree.body if isinstance(node, ast.ClassDef)
                )


def twice(root):
    """Gives a sentence for each pair of classes of one name."""
    return [
        f"the class {name} stands in {one} and in {other}: give one of them another name."
        for (name, one), (same, other) in pairwise(sorted(classes(root)))
        if name == same
    ]


def test_every_class_has_a_name_of_its_own():
    assert len(list(classes(ROOT))) > 500
    assert not (found := twice(ROOT)), "\n".join(found)


def test_a_second_class_of_a_name_is_found(tmp_path):
    nested, mine = "class Other:\n    class Mine: ...\n", "class Mine: ...\n"
    for file, text in (("lkd/a.py", nested), ("callbacks/b.py", mine), ("datamodules/c.py", mine)):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text(text)
    assert twice(tmp_path) == [
        "the class Mine stands in callbacks/b.py and in datamodules/c.py: give one of them another name."
    ]
