"""The parser of the command line: a mistake gets one sentence with similar names, not pages of usage."""

import argparse
import difflib
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace, get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from lkd import own_arguments, shipped
from lkd.unique_keys import check_unique

_IN_FOLDER = "; it is in this folder, where python -m lkd finds it"
MODE = "yaml_with_none"
_WITH_SHORT_NAMES = ("lkd.", "lightning.pytorch.callbacks", "lightning.pytorch.loggers", "torch.optim")
_NOISE = re.compile(
    r"$|Does not validate|Subtypes:|Errors:|Given value|Expected a path but|Expected a <class 'NoneType'>"
)


def _load(text: str) -> Any:
    """Loads YAML in which None is null too, as the parser passes null on to nested options as None.

    A key that stands twice is refused.
    """
    check_unique(text)
    return _without_none(get_loader("yaml")(text))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_none(each) for each in value]
    return None if value == "None" else value


set_loader(MODE, _load, exceptions=(yaml.YAMLError,))


class Parser(LightningArgumentParser):
    """Lightning's parser, with one-sentence errors, which takes `None` for `null`.

    Modules and data modules that it makes, at any depth, save their own hyperparameters. `--config` takes a
    path or the name of one of lkd's own configs, `lkd:parking/oracle.yaml`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"parser_mode": MODE, **kwargs})

    def parse_args(self, args: Any = None, *more: Any, **kwargs: Any) -> Any:
        """Parses the command line, in which `--config` may name one of lkd's own."""
        given = sys.argv[1:] if args is None else args
        return super().parse_args(shipped.with_paths(given), *more, **kwargs)

    def parse_path(self, path: Any, *more: Any, **kwargs: Any) -> Any:
        """Parses a config; one of lkd's own names others of lkd's own, wherever it is used."""
        if not shipped.is_own(path):
            return super().parse_path(path, *more, **kwargs)
        return self.parse_string(shipped.read(path), os.path.basename(path), *more, **kwargs)

    def instantiate(self, namespace: Namespace, *args: Any, **kwargs: Any) -> Namespace:
        """Makes the objects of a configuration; the parsers of nested classes use it, too."""
        kwargs["instantiators"] = own_arguments.INSTANTIATORS
        made = super().instantiate(namespace, *args, **kwargs)
        own_arguments.note(self, namespace, made)
        return made

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Ends the program with code 2; `LKD_TRACEBACK=1` shows the parser's full message.

        The parsers of nested classes call it first, and know the names of their options.
        """
        message = _suggest(message, set(_options(self)))
        if not self.exit_on_error or os.environ.get("LKD_TRACEBACK"):
            super().error(message, ex)
        self.exit(2, f"error: {sentence(message)}\n")


def sentence(message: str) -> str:
    """Returns the content of a parser's message in one line.

    Example:
        >>> sentence('''Parser key "model":
        ...   Does not validate against any of the Union subtypes
        ...   Errors:
        ...     - Problem with given class_path 'lkd.modules.Classifier':
        ...         Option 'lrr' is not accepted; did you mean 'lr'?
        ...     - Expected a <class 'NoneType'>
        ...   Given value: x''')
        "model: lkd.modules.Classifier: Option 'lrr' is not accepted; did you mean 'lr'?"
    """
    kept: dict[str, None] = {}  # an ordered set, as some lines come twice
    for line in message.splitlines():
        line = line.strip().removeprefix("- ")
        if not _NOISE.match(line):
            kept[line] = None
        if "did you mean" in line or "there is no class" in line:
            break
    text = re.sub(r'Parser key "(.*?)":', r"\1:", " ".join(kept))
    text = re.sub(r"Problem with given class_path '(.*?)':", r"\1:", text)
    return re.sub(r"Type \S.*? expects a function or a callable class: |\. Got value: Namespace.*", "", text)


def _options(parser: argparse.ArgumentParser) -> Iterable[str]:
    for action in parser._actions:
        if not action.dest.endswith("help"):
            yield action.dest
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _options(each)


def _suggest(message: str, options: set[str]) -> str:
    """Adds similar names, once, where the name of a class or an option is wrong."""
    if "did you mean" in message or "there is no class" in message:
        return message
    if "pytorch_lightning" in sys.modules and (
        found := re.search(r"does not correspond to a subclass of Lightning\w+$", message, re.MULTILINE)
    ):
        return message.replace(
            found[0],
            f"{found[0]} of the package lightning, which configs take; it may be of pytorch_lightning: import from "
            "lightning.pytorch instead, or give it in Python, as Federation(MyModule())",
        )
    if found := re.search(r"Expected a dot import path string: (\w+)", message):
        loaded = [name for name in list(sys.modules) if name.startswith(_WITH_SHORT_NAMES)]
        near = _near(found[1], _classes(loaded)) or "; one of your own needs its dotted path."
        return message.replace(found[0], f"there is no class {found[1]!r}{near}")
    if found := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message):
        return message.replace(found[0], found[0] + _near(found[2], _classes([found[1]])))
    if found := re.search(r"No module named '(\w+)'", message):
        here = Path(f"{found[1]}.py").is_file() or Path(found[1]).is_dir()
        return message.replace(found[0], found[0] + _IN_FOLDER * (here and _IN_FOLDER not in message))
    if found := re.search(r"unrecognized arguments: ([^-\s]\S*\.ya?ml)", message):
        return f"{message.rstrip()}; did you mean '--config {found[1]}'?"
    if found := re.search(r"(?:[Oo]ption '|unrecognized arguments: --)([\w.]+)(' is not accepted)?", message):
        section = found[1].partition(".")[0]  # of a known section, only the end may be wrong
        near = _near(found[1], options, 0.8) if section in options else _near(section, options)
        return message.rstrip() + near
    return message


def _classes(modules: Iterable[str]) -> set[str]:
    return {name for m in modules for name, value in vars(sys.modules[m]).items() if isinstance(value, type)}


def _near(name: str, known: Iterable[str], cutoff: float = 0.7) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=cutoff)
    return f"; did you mean {' or '.join(repr(each) for each in near)}?" if near else ""
