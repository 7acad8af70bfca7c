"""A study as a file: what was compared, how it was run, and the figures."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lkd.leaderboard.origin import Origin
from lkd.metrics.tables import Row
from lkd.text_files import read_text

FORMAT = 1
DEVIATION = " deviation"
"""What stands behind a metric's name in the name of its deviation."""


@dataclass(frozen=True)
class Study:
    """A study that was run.

    Attributes:
        title: A few words.
        about: Sentences on data, networks and work.
        command: Command that runs it again.
        metric: Metric that is compared.
        higher_is_better: Whether a larger figure of it is better.
        baselines: Methods that are yardsticks and cannot win.
        seeds: Seeds of every method.
        origins: What its runs were measured with, each once.
        rows: A row for each setting and method: `setting` (empty where there is one only), `method`, `seeds`
            (how many there are figures of), the means over the seeds by name, and sample deviations by
            `"<name> deviation"`. None is what was not measured.
    """

    title: str
    about: str
    command: str
    metric: str
    higher_is_better: bool
    baselines: tuple[str, ...]
    seeds: tuple[int, ...]
    origins: tuple[Origin, ...]
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        """Refuses two rows of one setting and method.

        Raises:
            ValueError: If there are two.
        """
        named = [(row["setting"], row["method"]) for row in self.rows]
        if twice := next((name for name in named if named.count(name) > 1), None):
            raise ValueError(f"two rows are of setting and method {twice!r}")

    @property
    def settings(self) -> list[str]:
        """The settings, in their order."""
        return list(dict.fromkeys(row["setting"] for row in self.rows))

    def row(self, setting: str, method: str) -> Row | None:
        """Returns the row of a method in a setting; None if it did not run there."""
        found = (row for row in self.rows if (row["setting"], row["method"]) == (setting, method))
        return next(found, None)

    def best(self, setting: str, name: str) -> float | None:
        """Returns the best figure of a column among the methods that can win; None if there is no figure."""
        figures = [
            row[name]
            for row in self.rows
            if row["setting"] == setting and row["method"] not in self.baselines and row.get(name) is not None
        ]
        return (max if self.higher_is_better else min)(figures, default=None)


def write_study(study: Study, path: Path) -> None:
    """Writes a study as JSON, a row a line, so that a change of a figure is a change of its line."""
    rows = ",\n    ".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in study.rows)
    facts = {"format": FORMAT, **asdict(study)}
    del facts["rows"]
    head = json.dumps(facts, indent=2, ensure_ascii=False).removesuffix("\n}")
    path.write_text(f'{head},\n  "rows": [\n    {rows}\n  ]\n}}\n', encoding="utf-8")


def read_study(path: Path) -> Study:
    """Reads a study.

    Args:
        path: A file that `write_study` wrote, or a folder with `study.json` in it.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the file is no study, or one of a later version of lkd.
    """
    if path.is_dir():
        path = path / "study.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: `compare` writes study.json into its folder.")
    try:
        facts = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: is no JSON ({error.msg}).") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        found = facts.get("format") if isinstance(facts, dict) else None
        raise ValueError(f"{path} is no study of format {FORMAT} (its format: {found!r}).")
    try:
        return _made(facts)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not as `compare` writes a study: {error!r}.") from error


def _made(facts: dict[str, Any]) -> Study:
    for number, row in enumerate(facts["rows"], 1):
        _check(row, number, facts["metric"])
    return Study(
        title=facts["title"],
        about=facts["about"],
        command=facts["command"],
        metric=facts["metric"],
        higher_is_better=facts["higher_is_better"],
        baselines=tuple(facts["baselines"]),
        seeds=tuple(facts["seeds"]),
        origins=tuple(Origin(**each) for each in facts["origins"]),
        rows=tuple(facts["rows"]),
    )


def _check(row: Row, number: int, metric: str) -> None:
    for name in ("setting", "method", "seeds", metric):
        if name not in row:
            raise ValueError(f"row {number} has no {name!r}")
    for name, value in row.items():
        kinds = (str,) if name in ("setting", "method") else (int, float, type(None))
        if not isinstance(value, kinds):
            raise ValueError(f"row {number} has {name}={value!r}")


def once(origins: Sequence[Origin]) -> tuple[Origin, ...]:
    """Returns each origin once, in order."""
    return tuple(dict.fromkeys(origins))
