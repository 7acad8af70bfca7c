"""Reader of a comparison's YAML; every mistake in it gets one sentence."""

import difflib
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from lkd import shipped
from lkd.compare.grid import Method, RunGrid
from lkd.metrics.direction import rises
from lkd.unique_keys import RepeatedKeyError, load_yaml

EXAMPLE = "such as [--model.algorithm=FedAvg]"


def read(path: str | Path, folder: str | None = None, more: tuple[str, ...] = ()) -> RunGrid:
    """Reads a comparison and checks its keys. The options of its runs are checked later, by their parser.

    Args:
        path: The YAML, or the name of one of lkd's own.
        folder: Folder to write to, in place of the one that the YAML names.
        more: Overrides of all runs, after all others.

    Raises:
        FileNotFoundError: If the YAML, or a configuration that it names, does not exist.
        ValueError: For an unknown key or a wrong value.
    """
    named, path = path, shipped.find(path)
    where = path.name
    if not path.is_file():
        hint = shipped.hint(str(named)) or "; give the YAML of a comparison, such as lkd:tradeoff/digits.yaml"
        raise FileNotFoundError(f"{path} does not exist{hint}.")
    try:
        given = load_yaml(shipped.read(named))
    except RepeatedKeyError as error:
        raise ValueError(f"{path}, {error}.") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    _check_keys(given, RunGrid, where)
    if missing := next((key for key in ("base", "methods") if not given.get(key)), None):
        raise ValueError(f"{where}: {missing} is missing.")
    metric = str(given.get("metric", "test/acc"))
    settings = _names(given.get("settings") or {"": []}, f"{where}: settings")
    grid = RunGrid(
        base=str(given["base"]),
        methods={
            name: _method(value, f"{where}: methods.{name}")
            for name, value in _names(given["methods"], f"{where}: methods").items()
        },
        title=str(given.get("title") or path.stem),
        about=" ".join(str(given.get("about") or "").split()),
        settings={n: _overrides(value, f"{where}: settings.{n}") + more for n, value in settings.items()},
        overrides=_overrides(given.get("overrides"), f"{where}: overrides"),
        seeds=_seeds(given.get("seeds", [0]), where),
        seeded=tuple(map(str, given.get("seeded") or ())),
        metric=metric,
        higher_is_better=_flag(given.get("higher_is_better", rises(metric)), f"{where}: higher_is_better"),
        target=_number(given.get("target"), f"{where}: target"),
        every=_count(given.get("every", 1), f"{where}: every", "rounds"),
        limit=_count(given.get("limit", RunGrid.limit), f"{where}: limit", "clients"),
        folder=folder or str(given.get("folder") or Path("runs", path.stem)),
    )
    _check_files(grid, where)
    return grid


def chosen(grid: RunGrid, seeds: list[int] | None) -> RunGrid:
    """Returns the same comparison with other seeds, if any are given.

    Raises:
        ValueError: For a seed below 0.
    """
    return grid if seeds is None else replace(grid, seeds=_seeds(seeds, "--seeds"))


def _check_files(grid: RunGrid, where: str) -> None:
    for config in dict.fromkeys([grid.base, *(m.config for m in grid.methods.values() if m.config)]):
        if not shipped.find(config).is_file():
            hint = shipped.hint(config) or "; its path is from the working directory, as for fit"
            raise FileNotFoundError(f"{where}: the config {config} does not exist here{hint}.")
    folders = [run.folder.as_posix().lower() for run in grid.runs]
    if twice := next((f for f in folders if folders.count(f) > 1), None):
        raise ValueError(
            f"{where}: two runs would write to {twice}; names must differ in letters and digits."
        )


def _check_keys(given: Any, of: type, where: str) -> None:
    known = [f.name for f in fields(of)]
    if not isinstance(given, dict):
        raise ValueError(f"{where} must have keys, some of {', '.join(known)}, not {given!r:.60}.")
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
            raise ValueError(f"{where}: {key!r} is not known; {hint}")


def _names(given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"{where} must be names, each with what it stands for, not {given!r:.60}.")
    for name in given:
        if isinstance(name, bool | None) or (given != {"": []} and not re.search(r"\w", str(name))):
            raise ValueError(
                f"{where}: {name!r} must be a name with letters or digits, in quotes if it is a word such as yes or null."
            )
    if len(given) > len(named := {str(name): value for name, value in given.items()}):
        raise ValueError(f"{where}: two names are the same, one a number and one a text; rename one.")
    return named


def _method(given: Any, where: str) -> Method:
    given = {} if given is None else given
    _check_keys(given, Method, where)
    return Method(
        config=str(given.get("config") or ""),
        overrides=_overrides(given.get("overrides"), f"{where}.overrides"),
        baseline=_flag(given.get("baseline", False), f"{where}.baseline"),
        measure=str(given.get("measure") or ""),
    )


def _overrides(given: Any, where: str) -> tuple[str, ...]:
    if given is not None and not isinstance(given, list):
        raise ValueError(f"{where} must be a list {EXAMPLE}, not {given!r:.60}.")
    for each in given or ():
        if not isinstance(each, str) or not re.match(r"--[\w.]+\+?=", each):
            raise ValueError(
                f"{where}: {each!r} must be an option and its value, such as --trainer.max_epochs=5."
            )
    return tuple(given or ())


def _seeds(given: Any, where: str) -> tuple[int, ...]:
    if not isinstance(given, list) or not given or not all(type(s) is int and s >= 0 for s in given):
        raise ValueError(
            f"{where}: seeds={given!r} must be a list of whole numbers from 0 on, such as [0, 1, 2]."
        )
    return tuple(dict.fromkeys(given))


def _count(given: Any, where: str, of: str) -> int:
    if type(given) is not int or given < 1:
        raise ValueError(f"{where}={given!r} must be a number of {of}, 1 or more.")
    return given


def _flag(given: Any, where: str) -> bool:
    if not isinstance(given, bool):
        raise ValueError(f"{where}={given!r} must be true or false.")
    return given


def _number(given: Any, where: str) -> float | None:
    if given is not None and (isinstance(given, bool) or not isinstance(given, int | float)):
        raise ValueError(f"{where}={given!r} must be a number.")
    return None if given is None else float(given)
