"""Verbs for a trained student: their configuration names the one that trained it, which is read first."""

from collections.abc import Sequence
from typing import Any, cast

import yaml
from lightning.pytorch.cli import LightningArgumentParser, Namespace

from lkd import shipped
from lkd.edge.export.command import OfCheckpoint
from lkd.parser import Parser


class OfStudent(OfCheckpoint):
    """Verb that reads a student's configuration before its own, and makes the arguments of its function."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the configuration that trained the student, which is read before this one."""
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--student",
            type=str | None,
            default=None,
            help="The configuration that trained the student: what this one does not say is read from there.",
        )

    def made_options(self) -> dict[str, Any]:
        """Returns the options of the function, with objects in place of their descriptions."""
        parser = Parser()
        skip = cast(set[str | int], set(self.of_run))
        parser.add_function_arguments(self.function, skip=skip, fail_untyped=False)
        given = Namespace({name: self.config[name] for name in self.options})
        made = parser.instantiate(given)
        return {name: made[name] for name in self.options}


def with_student(args: Sequence[str]) -> list[str]:
    """Inserts the configuration that trained the student before the one that names it in `student`.

    `--student` has precedence over what a file says.

    Raises:
        FileNotFoundError: If there is no such configuration.
        ValueError: If a configuration is no YAML.
    """
    given = list(args)
    options = [
        (name, value if equals else next(iter(given[place + 1 :]), ""))
        for place, (name, equals, value) in enumerate(word.partition("=") for word in given)
    ]
    if asked := [value for name, value in options if name == "--student"]:
        return given if asked[-1] == "null" else ["--config", _there(asked[-1], ""), *given]
    for place, (name, path) in enumerate(options):
        if name not in ("--config", "-c") or not shipped.find(path).is_file():
            continue
        try:
            content = yaml.safe_load(shipped.read(path))
        except yaml.YAMLError as error:
            raise ValueError(f"--config {path} is no YAML: {' '.join(str(error).split())}.") from error
        student = content.get("student") if isinstance(content, dict) else None
        if isinstance(student, str):
            return [*given[:place], "--config", _there(student, f" of {path}"), *given[place:]]
    return given


def _there(student: str, of: str) -> str:
    if not shipped.find(student).is_file():
        hint = shipped.hint(student) or "; give the configuration that trained the student"
        raise FileNotFoundError(f"student={student!r}{of} does not exist{hint}.")
    return student
