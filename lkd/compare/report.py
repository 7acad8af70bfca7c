"""The report of a comparison: `report.html`, the same numbers as CSV and as a study, and pictures as PNG and PDF."""

import csv
import shlex
from collections.abc import Sequence
from pathlib import Path

from lkd import __version__
from lkd.compare import sections
from lkd.compare.break_even import break_even
from lkd.compare.page import bullets, details, heading, listing, page, paragraph, title
from lkd.compare.resolve import SEEDED
from lkd.compare.results import GridResults
from lkd.compare.summary import in_words, summarize
from lkd.leaderboard.origin import Origin
from lkd.leaderboard.study import Study, once, write_study
from lkd.metrics.tables import Row

STATES = {
    "missing": "have not been run yet",
    "changed": "were run with other options, and are left out until compare has run them again",
    "failed": "failed",
}


def write(results: GridResults, folder: Path, command: str) -> Path:
    """Writes the page, the tables as CSV, and the pictures.

    Args:
        results: Results of the runs that are done.
        folder: Folder to write to.
        command: Command that makes the report again.

    Returns:
        Path of the page.
    """
    rows = summarize(results)
    tables = {
        "results": rows,
        "runs": results.runs,
        "curves": results.curves,
        "clients": results.clients,
        "break_even": break_even(results),
    }
    for name, of in tables.items():
        save_csv(of, folder / f"{name}.csv")
    if rows:
        write_study(study_of(results, rows, command), folder / "study.json")
    path = folder / "report.html"
    path.write_text(html(results, rows, command, folder / "pictures"), encoding="utf-8")
    return path


def study_of(results: GridResults, rows: Sequence[Row], command: str) -> Study:
    """Returns the comparison as a study that `lkd leaderboard` reads.

    Args:
        results: Results of the runs that are done.
        rows: Their summary.
        command: Command that makes the report again.
    """
    grid = results.grid
    return Study(
        title=grid.title,
        about=" ".join(grid.about.split()),
        command=command,
        metric=grid.metric,
        higher_is_better=grid.higher_is_better,
        baselines=tuple(name for name, method in grid.methods.items() if method.baseline),
        seeds=tuple(dict.fromkeys(run.seed for run in results.done)),
        origins=once([Origin(**result["origin"]) for result in results.done.values() if "origin" in result]),
        rows=tuple(rows),
    )


def html(results: GridResults, rows: list[Row], command: str, pictures: Path) -> str:
    """Builds the page.

    Args:
        results: Results of the runs that are done.
        rows: Their summary.
        command: Command that makes the report again.
        pictures: Folder for the pictures as PNG and PDF files.
    """
    grid = results.grid
    parts = [title(grid.title), paragraph(grid.about), *_state(results)]
    if rows:
        parts += [heading("In short"), bullets(in_words(results, rows)), heading("Results")]
        parts += [sections.summary_tables(results, rows, setting) for setting in grid.settings]
        parts += [sections.explained(results), *sections.pictures(results, rows, pictures)]
        parts += [*sections.clients(results, pictures), *sections.costs(results)]
    return page(grid.title, [*parts, heading("Made by"), listing(command), *_how(results)])


def save_csv(rows: Sequence[Row], path: Path) -> None:
    """Writes rows with full precision under the columns of the first; a missing value is an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def _state(results: GridResults) -> list[str]:
    """Says which runs are missing, if any are."""
    parts = []
    for state, text in STATES.items():
        which = [str(run) for run, found in results.states.items() if found == state]
        if which:
            said = f"{len(which)} of {len(results.states)} runs {text}: {'; '.join(which)}."
            parts.append(paragraph(said, "failed"))
    for run, log in results.failed.items():
        parts.append(details(f"The last lines of {run}: {log[-1]}", [listing("\n".join(log))]))
    return parts


def _how(results: GridResults) -> list[str]:
    """Says how each method was run, and with which version, threads and jobs."""
    grid, first = results.grid, next(iter(results.grid.settings))
    lines = [f"{m}: fit {shlex.join(grid.arguments(first, m))}" for m in grid.methods]
    if len(grid.settings) > 1:
        lines.append(f"These are with {first!r}, whose options are the last; the settings' are:")
    lines += [f"{setting}: {shlex.join(more)}" for setting, more in grid.settings.items() if setting]
    lines.append(f"Seeds {', '.join(map(str, grid.seeds))} go to {', '.join(grid.seeded or SEEDED)}.")
    kinds = sorted({(r["threads"], r["jobs"]) for r in results.done.values()})
    shared = "; ".join(f"{threads} threads each, {jobs} runs at a time" for threads, jobs in kinds)
    return [
        listing("\n".join(lines)),
        paragraph("; ".join(filter(None, (f"lkd {__version__}", shared))) + "."),
    ]
