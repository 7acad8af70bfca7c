"""All studies on one page, and as one CSV."""

from collections.abc import Mapping
from textwrap import fill

from lkd.leaderboard.figures import cell
from lkd.leaderboard.study import DEVIATION, Study
from lkd.metrics.tables import Row

HEAD = """\
# Leaderboard

Every study that was recorded, its methods by their mean over the settings; the best in bold, baselines (which
cannot win) in italics. A figure is the mean over the seeds with its sample deviation. Seconds are those of
the machine that is named: compare them within a study. `python cli.py leaderboard` makes this page from what
`compare`, `offload` and `compress` have recorded; [leaderboard.csv](leaderboard.csv) has all that they
measured.
"""
COSTS = {"bytes": ("MB", 1e6), "seconds": ("s", 1.0), "flops": ("GFLOPs", 1e9)}
WIDTH = 110


def page(studies: Mapping[str, Study]) -> str:
    """Writes the page in Markdown.

    Args:
        studies: Studies by name.
    """
    listed = "\n".join(f"- [{study.title}](#{_anchor(study.title)})" for study in studies.values())
    return "\n".join([HEAD, listed, "", *(_section(name, study) for name, study in studies.items())])


def long_rows(studies: Mapping[str, Study]) -> list[Row]:
    """Returns a row for each study, setting, method and metric or cost that was measured."""
    return [
        {
            "study": name,
            "setting": row["setting"],
            "method": row["method"],
            "baseline": row["method"] in study.baselines,
            "measure": measure,
            "mean": value,
            "deviation": row.get(measure + DEVIATION),
            "seeds": row["seeds"],
            "lkd": ", ".join(dict.fromkeys(each.lkd for each in study.origins)),
            "commit": ", ".join(dict.fromkeys(str(each.commit) for each in study.origins)),
            "machine": ", ".join(dict.fromkeys(each.machine for each in study.origins)),
            "command": study.command,
        }
        for name, study in studies.items()
        for row in study.rows
        for measure, value in row.items()
        if measure not in ("setting", "method", "seeds")
        and not measure.endswith(DEVIATION)
        and value is not None
    ]


def _section(name: str, study: Study) -> str:
    about = [*fill(study.about, WIDTH).splitlines(), ""] if study.about else []
    lines = [f"## {study.title}", "", *about, f"    {study.command}", ""]
    seeds = f"seeds {', '.join(map(str, study.seeds))}" if len(study.seeds) > 1 else "one seed"
    made = "; ".join(
        f"lkd {o.lkd}, commit {o.commit or 'unknown'}, torch {o.torch}, {o.machine}, {o.date}"
        for o in study.origins
    )
    better = "higher" if study.higher_is_better else "lower"
    facts = f"Study `{name}`: `{study.metric}` ({better} is better), {seeds}. {made or 'Where it ran is not known'}."
    return "\n".join([*lines, *fill(facts, WIDTH).splitlines(), "", *_table(study), ""])


def _table(study: Study) -> list[str]:
    settings = study.settings
    one = len(settings) == 1
    costs = [name for name in COSTS if one and any(row.get(name) for row in study.rows)]
    head = ["method", *([study.metric] if one else settings), *(COSTS[name][0] for name in costs)]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for method in _ranked(study):
        shown = f"*{method}*" if method in study.baselines else method
        cells = [cell(study, setting, method, study.metric) for setting in settings]
        cells += [cell(study, settings[0], method, name, COSTS[name][1]) for name in costs]
        lines.append(f"| {' | '.join([shown, *cells])} |")
    return lines


def _ranked(study: Study) -> list[str]:
    """Returns the methods, the best first by the mean over the settings; without a figure in some, last."""

    def place(method: str) -> tuple[bool, float]:
        rows = [study.row(setting, method) for setting in study.settings]
        figures = [row[study.metric] for row in rows if row is not None and row[study.metric] is not None]
        mean = sum(figures) / len(figures) if figures else 0.0
        return len(figures) < len(rows), -mean if study.higher_is_better else mean

    return sorted(dict.fromkeys(row["method"] for row in study.rows), key=place)


def _anchor(title: str) -> str:
    """Returns the anchor that a Markdown reader makes of a heading.

    Example:
        >>> _anchor("Knowledge or weights, on digits (10 clients)")
        'knowledge-or-weights-on-digits-10-clients'
    """
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")
