"""Rows of results as a terminal table, CSV and Markdown."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import get_console
from rich.console import Console
from rich.table import Table

Row = dict[str, Any]


def text(value: Any) -> str:
    """A cell: three decimals for numbers, a dash where there is nothing to measure (`None` or -1).

    Example:
        >>> text(0.51239), text(-1.0), text("C1")
        ('0.512', '-', 'C1')
    """
    if value is None or (isinstance(value, float) and (value < 0 or value != value)):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def to_markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table; all rows have the keys of the first.

    Example:
        >>> print(to_markdown([{"camera": "C1", "mAP50": 0.5}]))
        | camera | mAP50 |
        |---|---|
        | C1 | 0.500 |
    """
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(text(row[n]) for n in names) + " |" for row in rows]
    return "\n".join(lines)


def save_table(rows: Sequence[Row], path: Path) -> None:
    """Writes `<path>.csv` with full precision and `<path>.md` to read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_csv(rows, path.with_name(path.name + ".csv"))
    path.with_name(path.name + ".md").write_text(to_markdown(rows) + "\n", encoding="utf-8")


def save_csv(rows: Sequence[Row], path: Path) -> None:
    """Writes a CSV with full precision; all rows have the keys of the first."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read_table(path: Path) -> list[Row]:
    """The rows of a CSV that `save_table` wrote; what is a number is one."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: _number(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _number(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def print_table(rows: Sequence[Row], title: str, width: int | None = None) -> None:
    """Prints the rows to the terminal; to a file as wide as is said."""
    table = Table(title=title)
    for name, value in rows[0].items():
        table.add_column(name, justify="right" if isinstance(value, float) else "left")
    for row in rows:
        table.add_row(*(text(v) for v in row.values()))
    console = get_console()
    if width is not None and not console.is_terminal:
        console = Console(width=max(width, console.width))
    console.print(table)  # the one of Lightning's bar, which makes room for what it prints
