"""The verb `leaderboard`: recorded studies in, one page and one CSV out."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from lkd.leaderboard.filled import MARKED, fill
from lkd.leaderboard.page import long_rows, page
from lkd.leaderboard.study import Study, read_study
from lkd.metrics.tables import save_csv

DESCRIPTION = """\
Writes leaderboard.md and leaderboard.csv of recorded studies: `compare` writes one, study.json, into its folder."""


def run(args: Sequence[str]) -> Path:
    """Writes page and CSV.

    Args:
        args: Arguments of the command line after `leaderboard`.

    Returns:
        Path of the page.

    Raises:
        FileNotFoundError: If there is no study.
        ValueError: If a file is no study, or two studies have the same name.
    """
    parser = argparse.ArgumentParser("python cli.py leaderboard", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "studies", nargs="+", type=Path, help="study.json files, and folders that have some anywhere in them"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/leaderboard"), help="where to write")
    parser.add_argument(
        "--pages", type=Path, nargs="*", default=[], help="Markdown files whose marked tables are filled"
    )
    given = parser.parse_args(args)
    studies = collect(given.studies)
    text, rows = page(studies), long_rows(studies)  # before anything is written
    given.folder.mkdir(parents=True, exist_ok=True)
    path: Path = given.folder / "leaderboard.md"
    path.write_text(text, encoding="utf-8")
    save_csv(rows, given.folder / "leaderboard.csv")
    for marked in given.pages:
        if MARKED.search(marked.read_text(encoding="utf-8")) and fill(marked, studies):
            print(f"{marked}: tables filled anew")
    print(f"{path}, and leaderboard.csv beside it: {len(studies)} studies")
    return path


def collect(places: Iterable[Path]) -> dict[str, Study]:
    """Reads all studies of files and folders.

    Args:
        places: A file is a study. Of a folder each file `study.json` in it, however deep, and each other
            `.json` directly in it.

    Returns:
        Studies by name: the file's name, or that of its folder where it is `study.json`.

    Raises:
        FileNotFoundError: If a place has no study.
        ValueError: If a file is no study, or two have the same name.
    """
    found: dict[str, Path] = {}
    for place in places:
        paths = sorted({*place.glob("*.json"), *place.rglob("study.json")}) if place.is_dir() else [place]
        if not paths:
            raise FileNotFoundError(f"{place} has no study; `compare` writes study.json into its folder.")
        for path in paths:
            name = path.parent.resolve().name if path.name == "study.json" else path.stem
            if name in found and found[name].resolve() != path.resolve():
                raise ValueError(
                    f"{path} and {found[name]} are both named {name!r}: a study goes by its file, or by its "
                    "folder; give one of them another name."
                )
            found[name] = path
    return {name: read_study(path) for name, path in found.items()}
