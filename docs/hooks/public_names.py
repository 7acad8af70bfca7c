"""The public names of lkd, read from its source: what each package's `__all__` offers, and where it is defined.

Nothing of lkd is imported, so the site is built without torch.
"""

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = {"lkd.datamodules": ROOT / "datamodules", "lkd.callbacks": ROOT / "callbacks"}  # links in lkd/


@dataclass(frozen=True)
class Public:
    """One name that a package offers.

    Attributes:
        package: The package whose `__all__` names it.
        name: The name.
        module: The module that defines it.
        node: Its definition.
    """

    package: str
    name: str
    module: str
    node: ast.stmt

    @property
    def doc(self) -> str:
        """Its docstring; empty for what has none, such as a type alias."""
        documented = isinstance(self.node, ast.ClassDef | ast.FunctionDef)
        return ast.get_docstring(self.node) or "" if documented else ""

    @property
    def is_class(self) -> bool:
        """Whether it is a class."""
        return isinstance(self.node, ast.ClassDef)


def file_of(module: str) -> Path:
    """Returns the file of a module or package of lkd."""
    folder = ROOT / module.replace(".", "/")
    for name, place in FOLDERS.items():
        if f"{module}.".startswith(f"{name}."):
            folder = place / module[len(name) + 1 :].replace(".", "/")
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


@cache
def tree(module: str) -> ast.Module:
    """Parses a module."""
    return ast.parse(file_of(module).read_text(encoding="utf-8"))


def module_doc(module: str) -> str:
    """Returns the docstring of a module."""
    return ast.get_docstring(tree(module)) or ""


def packages() -> list[str]:
    """Returns the packages of lkd that have an `__all__`, in alphabetical order."""
    found = []
    for name, top in {"lkd": ROOT / "lkd", **FOLDERS}.items():
        for folder, below, files in os.walk(top):
            below[:] = [b for b in below if not (Path(folder) / b).is_symlink()]
            inside = Path(folder).relative_to(top).parts
            if "__init__.py" in files and offered(".".join((name, *inside))):
                found.append(".".join((name, *inside)))
    return sorted(found)


def offered(package: str) -> list[str]:
    """Returns what `__all__` of a package names; nothing where it has none."""
    for node in tree(package).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


def names(package: str) -> Iterator[Public]:
    """Yields each public name of a package with its definition.

    Raises:
        ValueError: If a name is defined in a way that this file does not see.
    """
    for name in offered(package):
        module, node = _defined(package, name)
        yield Public(package, name, module, node)


def _defined(module: str, name: str) -> tuple[str, ast.stmt]:
    for node in tree(module).body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _defined(node.module, alias.name)
        if getattr(node, "name", None) == name:
            return module, node
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if any(getattr(target, "id", None) == name for target in targets):
            return module, node
    raise ValueError(f"{name} of {module} is neither defined nor imported at the top of its file.")
