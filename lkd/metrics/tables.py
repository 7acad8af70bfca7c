"""Rows of results as a table in the terminal, as CSV and as Markdown."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import get_console
from rich.console import Console
from rich.table import Table

Row = dict[str, Any]


def text(value: Any) -> str:
    """Formats a cell: three decimals for numbers, a dash where there is no value (`None` or NaN).

    Example:
        >>> text(0.51239), text(-1.0), text(None)
        ('0.512', '-1.000', '-')
    """
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def to_markdown(rows: Sequence[Row]) -> str:
    """Formats rows as a Markdown table; all rows have the keys of the first.

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
    """Writes `<path>.csv` with full precision, and `<path>.md` for reading."""
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
    """Reads the rows of a CSV that `save_table` wrote; numbers become floats."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: _number(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _number(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def print_table(rows: Sequence[Row], title: str, width: int | None = None) -> None:
    """Prints rows to the terminal; output to a file is at least `width` wide."""
    table = Table(title=title)
    for name, value in rows[0].items():
        table.add_column(name, justify="right" if isinstance(value, float) else "left")
    for row in rows:
        table.add_row(*(text(v) for v in row.values()))
    console = get_console()
    if width is not None and not console.is_terminal:
        console = Console(width=max(width, console.width))
    console.print(table)  # the console of Lightning's progress bar, which makes room for the table
