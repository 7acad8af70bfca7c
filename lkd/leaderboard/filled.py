"""Tables in Markdown pages that are filled from recorded studies.

A page says which columns it wants of which study, and the table stands between two comments:

    <!-- study digits_caches: own = clients/test/acc/mean; MB = bytes / 1e6 -->
    | method | own | MB |
    ...
    <!-- end of study -->
"""

import re
from collections.abc import Mapping
from pathlib import Path

from lkd.leaderboard.figures import cell
from lkd.leaderboard.study import Study

MARKED = re.compile(
    r"^<!-- study (?P<name>[\w-]+): (?P<columns>[^>]*?) -->\n(?P<table>.*?)^<!-- end of study -->$",
    re.MULTILINE | re.DOTALL,
)


def filled(text: str, studies: Mapping[str, Study], where: str) -> str:
    r"""Fills the tables of a page.

    Args:
        text: The page.
        studies: Studies by name.
        where: Name of the page, for errors.

    Returns:
        The page with its tables filled.

    Raises:
        ValueError: If a page names a study or a column that there is not, or a mark has no end.

    Example:
        >>> study = Study("", "", "", "acc", True, (), (0,), (), ({"setting": "", "method": "KD", "seeds": 1, "acc": 0.5},))
        >>> page = "<!-- study digits: accuracy = acc -->\n<!-- end of study -->"
        >>> print(filled(page, {"digits": study}, "page.md"))
        <!-- study digits: accuracy = acc -->
        | method | accuracy |
        |---|---|
        | KD | **.500** |
        <!-- end of study -->
    """
    if len(re.findall("^<!-- study ", text, re.MULTILINE)) != len(MARKED.findall(text)):
        raise ValueError(f"{where}: a `<!-- study NAME: ... -->` has no `<!-- end of study -->` behind it.")

    def table(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in studies:
            raise ValueError(
                f"{where}: there is no study {name!r}; there are {', '.join(studies) or 'none'}."
            )
        head = f"<!-- study {name}: {match['columns']} -->"
        lines = _table(studies[name], match["columns"], f"{where}, study {name}")
        return "\n".join([head, *lines, "<!-- end of study -->"])

    return MARKED.sub(table, text)


def fill(path: Path, studies: Mapping[str, Study]) -> bool:
    """Fills the tables of a file, and returns whether anything changed."""
    before = path.read_text(encoding="utf-8")
    after = filled(before, studies, str(path))
    if after != before:
        path.write_text(after, encoding="utf-8")
    return after != before


def _table(study: Study, wanted: str, where: str) -> list[str]:
    columns = [_column(each, study, where) for each in wanted.split(";")]
    several = len(study.settings) > 1
    head = [*(["setting"] if several else []), "method", *(title for title, _, _ in columns)]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in study.rows:
        first = [row["setting"]] if several else []
        cells = [cell(study, row["setting"], row["method"], name, by) for _, name, by in columns]
        lines.append(f"| {' | '.join([*first, row['method'], *cells])} |")
    return lines


def _column(text: str, study: Study, where: str) -> tuple[str, str, float]:
    """Reads `title = name` or `title = name / number`."""
    match = re.fullmatch(r"\s*(.+?)\s*=\s*(\S+)(?:\s+/\s+([0-9.e]+))?\s*", text)
    known = list(dict.fromkeys(name for row in study.rows for name in row))
    if match is None or match[2] not in known:
        raise ValueError(f"{where}: the column {text.strip()!r} is not TITLE = NAME of {', '.join(known)}.")
    return match[1], match[2], float(match[3] or 1)
