"""Classes that a checkpoint may name among its hyperparameters, since making them again runs their code."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch.optim
import yaml
from torch import nn

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_MODULES = (nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
_KNOWN = ("lkd.", "torch.nn.", "torch.optim.", "torchvision.", "torchmetrics.", "lightning.pytorch.", "pytorch_lightning.")  # fmt: skip
_ROOTS = {f"{each.partition('.')[0]}." for each in _KNOWN}
_FUNCTIONS = ("torchvision.models.", "torch.nn.functional.", "lkd.losses.", "lkd.checkpoints.load_client")
"""Public functions that give networks, activations and losses, and read nothing but checkpoints, by lkd's own means."""


def check(
    hyperparameters: Any,
    path: str,
    trust: Sequence[str] = (),
    option: str = "trust=[{!r}]",
    config: Any = None,
) -> None:
    """Refuses hyperparameters of a file that would run code other than lkd's, torch's and imported code.

    A file may name: modules, optimizers and schedulers of lkd, torch, torchvision, torchmetrics and
    Lightning; the user's own modules that are imported already; what the present config names; and what
    `trust` names.

    Args:
        hyperparameters: Plain data.
        path: The file, for the message.
        trust: Packages, modules or classes that may be named besides.
        option: How the user allows a package, for the message.
        config: Plain data whose names are the user's own.

    Raises:
        ValueError: If a name is refused; the message has the first one.

    Example:
        >>> check({"optimizer": {"class_path": "torch.optim.SGD"}}, "x.ckpt")
        >>> check({"optimizer": {"class_path": "os.system"}}, "x.ckpt")
        Traceback (most recent call last):
        ValueError: 'x.ckpt' names os.system, ... if you trust that file and os, allow it by trust=['os'].
    """
    import lkd.federated  # (so that what it names is found)
    import lkd.modules  # noqa: F401

    said = set(_names(config))
    if isinstance(hyperparameters, dict):  # Lightning itself checks how a module is made again
        hyperparameters = {key: each for key, each in hyperparameters.items() if key != "_instantiator"}
    for name in _names(hyperparameters):
        root = name.partition(".")[0]
        meant = name if f"{root}." in _ROOTS else root
        if not (_is_trusted(name, trust) or name in said or _is_known(name)):
            raise ValueError(
                f"{path!r} names {name}, which a file is not let run: it is no module, optimizer or scheduler of lkd, torch, torchvision or "
                f"Lightning and none of your own that is imported; if you trust that file and {meant}, allow it by {option.format(meant)}."
            )


def import_trusted(class_path: str, trust: Sequence[str]) -> None:
    """Imports the module of a class that the user trusts, so that it can be found.

    Raises:
        ImportError: If there is no such module.
    """
    module = class_path.rpartition(".")[0]
    if module not in sys.modules and _is_trusted(class_path, trust):
        importlib.import_module(module)


def _is_trusted(name: str, trust: Sequence[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in trust)


def _names(value: Any) -> Iterator[str]:
    """Yields what a parser would look up as a class, function or config, at any depth and in named files."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key in ("class_path", "_class_path", "recipe") and isinstance(each, str):
                yield each
            elif key == "trust" and isinstance(each, list | tuple):
                yield from map(str, each)  # a file must not allow its own names
            else:
                yield from _names(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _names(each)
    elif isinstance(value, str):
        if _looks_like_code(value):
            yield value
        elif (described := _file(value)) is not None:
            yield from _names(described)


def _looks_like_code(text: str) -> bool:
    """Returns whether a text is the dotted name of something callable, or of a module not yet imported."""
    if _DOTTED.fullmatch(text) is None:
        return False
    module, _, name = text.rpartition(".")
    if module in sys.modules:
        return callable(getattr(sys.modules[module], name, None))
    try:
        root = importlib.util.find_spec(text.partition(".")[0])
    except (ImportError, ValueError):
        return False
    folder = root is not None and root.origin is None  # data.yaml beside a folder data
    return root is not None and not (folder and text.count(".") == 1)


def _file(text: str) -> Any:
    """Returns what a parser reads from a text that is a file's path: YAML of a nested object."""
    try:
        path = Path(text)
        if not path.is_file() or path.stat().st_size > 1_000_000:
            return None
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return found if isinstance(found, dict | list) else None


def _is_known(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    found = getattr(sys.modules.get(module), attribute, None)  # nothing is imported because a file says so
    where = f"{getattr(found, '__module__', None)}."
    if not isinstance(
        found, type
    ):  # a function, under its own name and, except torch's compiled ones, in its own place
        own = module == "torch.nn.functional" or f"{where}{attribute}".startswith(_FUNCTIONS)
        return callable(found) and own and (name.startswith(_FUNCTIONS) or where == "lkd.checkpoints.")
    if where.startswith("lkd."):
        return True
    return issubclass(found, _MODULES) and (
        where.startswith(_KNOWN) or not _is_installed(where.partition(".")[0])
    )


def _is_installed(package: str) -> bool:
    """Returns whether a package is installed, whose classes may read files, and not the user's own."""
    file = getattr(sys.modules.get(package), "__file__", None) or ""
    return any(folder in file for folder in ("site-packages", "dist-packages"))
