"""The stage table: as text, CSV, Markdown and one picture, and in W&B where a run logs there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.loggers import Logger, WandbLogger
from matplotlib.figure import Figure

from lkd.edge.compress.macs import file_macs
from lkd.edge.compress.reference import Measures
from lkd.edge.compress.step import Stage
from lkd.metrics.tables import Row, print_table, save_table

TITLE = "What each stage's file does"


@dataclass(frozen=True)
class Outcome:
    """A stage, and its result.

    Attributes:
        stage: The stage.
        measures: Measurements of its files; None if the step did not run.
        start: Name of the stage that it was made from.
        kept: Whether further steps go on from it.
        why: Reasons, in words.
    """

    stage: Stage
    measures: Measures | None
    start: str
    kept: bool
    why: str


def table(outcomes: Sequence[Outcome]) -> list[Row]:
    """Returns a row for each stage.

    MACs are multiply-accumulates of one sample in the file (half of its FLOPs).

    Args:
        outcomes: The outcomes, the dense student's first.
    """
    return [_row(outcome, outcomes[0].measures) for outcome in outcomes]


def _row(outcome: Outcome, dense: Measures | None) -> Row:
    m = outcome.measures
    name = dense.metric.removeprefix("test/") if dense is not None else "metric"
    count = max((file_macs(path) or 0 for path in outcome.stage.files), default=0)
    return {
        "stage": outcome.stage.name,
        name: None if m is None else f"{m.value:.4f}",
        "lost": None if m is None else f"{m.drop:+.4f}",
        "MB": None if m is None else m.mb,
        "M MACs": f"{count / 1e6:.4g}" if count else None,
        "p50 ms": None if m is None else m.p50_ms,
        "p95 ms": None if m is None else m.p95_ms,
        "CPU ms": None if m is None else m.cpu_ms,
        "time": None if m is None else f"{m.of_parent:.0%}",
        "agrees": None if m is None or m.agreement is None else f"{m.agreement:.1%}",
        "kept": f"{'yes' if outcome.kept else 'no'}{': ' if outcome.why else ''}{outcome.why}",
    }


def say(outcome: Outcome) -> None:
    """Prints a stage's line of the table."""
    m, row = outcome.measures, _row(outcome, outcome.measures)
    found = (
        ""
        if m is None
        else f" {m.metric} {m.value:.4f} ({row['lost']} lost), {m.mb:.3g} MB, {m.p50_ms:.3g} ms;"
    )
    print(f"{outcome.stage.name}:{found} kept: {row['kept']}")


def report(folder: Path, outcomes: Sequence[Outcome], loggers: Sequence[Logger] = ()) -> list[Row]:
    """Prints the table, and writes `stages.csv`, `stages.md` and `stages.png`.

    Args:
        folder: Folder to write into.
        outcomes: Outcomes of all stages so far.
        loggers: Loggers; those of W&B get the table and the picture.
    """
    rows = table(outcomes)
    if not rows:
        return rows
    print_table(rows, TITLE, width=130)
    save_table(rows, folder / "stages")
    picture(folder / "stages.png", outcomes)
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            cells = [["" if cell is None else str(cell) for cell in row.values()] for row in rows]
            logger.log_table("compress/stages", columns=list(rows[0]), data=cells)
            logger.log_image("compress/picture", images=[str(folder / "stages.png")])
    return rows


def picture(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Draws the metric over the latency, with the size as area; stages that are not kept are hollow.

    Args:
        path: The PNG to write.
        outcomes: The stages.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    known = [(o, o.measures) for o in outcomes if o.measures is not None]
    largest = max(m.mb for _, m in known)
    for number, (outcome, m) in enumerate(known):
        face = f"C{number}" if outcome.kept else "none"
        axes.scatter(
            m.p50_ms, m.value, s=900 * m.mb / largest, facecolor=face, edgecolor=f"C{number}", alpha=0.6
        )
        label = f"{outcome.stage.name}, {m.mb:.3g} MB"
        axes.annotate(label, (m.p50_ms, m.value), xytext=(8, 8), textcoords="offset points", fontsize=8)
    axes.margins(0.25)
    timed = next(iter(known[0][1].latency.values()))
    axes.set_xlabel(f"p50 of one sample, ms (threads: {timed['threads']}; {timed['cpu']})")
    axes.set_ylabel(known[0][1].metric)
    axes.set_title("Each stage's file; area: size; hollow: not kept", fontsize=10)
    figure.savefig(path, dpi=120)
