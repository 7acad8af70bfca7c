"""The report: curves.csv, points.md, one picture, and in W&B where a run logs there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

from lkd.edge.offload.curves import closed
from lkd.edge.offload.picture import picture
from lkd.edge.offload.point import Point
from lkd.metrics.tables import Row, print_table, save_csv, to_markdown

SHOWN = (0.1, 0.2, 0.3, 0.5)
"""Shares of which the table has rows; the CSV has all."""
TITLE = "Shared between device and server"


@dataclass
class Report:
    """All points of a run.

    Attributes:
        metrics: Names of what is measured; the first one decides.
        device: Point at which nothing is sent.
        server: Point at which everything is sent.
        teacher: Metrics if everything is sent and no message fails.
        curves: Curves of each gate by share, random and the oracle among them.
        operating: Point that the budget leads to; None if none meets it.
        others: Points of other arms, such as reuse, splits or early exits.
        notes: Sentences below the table.
    """

    metrics: Sequence[str]
    device: Point
    server: Point
    teacher: Mapping[str, float]
    curves: Mapping[str, Mapping[float, Point]]
    operating: Point | None = None
    others: list[Point] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def rows(self, shares: Sequence[float] | None = SHOWN) -> list[Row]:
        """Returns a row for each point.

        Args:
            shares: Shares of the curves that are shown; None for all.
        """
        first = [self.device, self.server, *([self.operating] if self.operating else [])]
        rows = [self._row(point, None) for point in first]
        for curve in self.curves.values():
            rows += [self._row(p, share) for share, p in curve.items() if shares is None or share in shares]
        return [*rows, *(self._row(point, None) for point in self.others)]

    def _row(self, point: Point, share: float | None) -> Row:
        """Returns a row of plain numbers, which `said` turns into words.

        An arm of a user need not measure the same.
        """
        known = {name: point.metrics.get(name) for name in self.metrics}
        gaps = {
            f"gap {name}": closed(point, self.device.metrics, self.teacher, name)
            if name in point.metrics
            else None
            for name in self.metrics[:2]
        }
        return {
            "arm": point.arm,
            "share": share,
            "sent": point.rate,
            "units": point.units,
            "kB": point.kb,
            **known,
            **gaps,
            "p50 ms": point.p50_ms,
            "p95 ms": point.p95_ms,
            "failed": point.failed,
            "server ms": point.server_ms,
            **({"reused": point.reused} if any(p.reused for p in self.others) else {}),
            **({"device MMACs": None if isnan(point.mmacs) else point.mmacs} if self.counted else {}),
        }

    @property
    def counted(self) -> bool:
        """Whether the work of a device was counted."""
        return not all(isnan(point.mmacs) for point in (self.device, *self.others))

    def sentence(self) -> str:
        """Says in words what the operating point does."""
        assert self.operating is not None
        p, metric = self.operating, self.metrics[0]
        gap = closed(p, self.device.metrics, self.teacher, metric)
        share = "" if gap is None else f", {gap:.0%} of the gap"
        return (
            f"Operating point, {p.arm}: {p.rate:.1%} of the samples go up with {p.kb:.3g} kB a sample in the mean; {metric} {p.metrics[metric]:.4f} "
            f"(device {self.device.metrics[metric]:.4f}, teacher {self.teacher[metric]:.4f}{share}); p95 {_ms(p.p95_ms)} ms; "
            f"{p.failed:.1%} came back too late or never."
        )

    def write(self, folder: Path, loggers: Sequence[Logger] = ()) -> None:
        """Prints the table, and writes `curves.csv`, `points.md` and `curves.png`.

        Args:
            folder: Folder to write into.
            loggers: Loggers; those of W&B get table and picture.
        """
        rows = [said(row) for row in self.rows()]
        print_table(rows, TITLE, width=150)
        save_csv(self.rows(None), folder / "curves.csv")
        lines = [to_markdown(rows), *self.notes]
        (folder / "points.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
        first = self.metrics[0]
        picture(
            folder / "curves.png", first, self.device, self.server, self.curves, self.operating, self.others
        )
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.log_table(
                    "offload/points", columns=list(rows[0]), data=[list(r.values()) for r in rows]
                )
                logger.log_image("offload/curves", images=[str(folder / "curves.png")])


def said(row: Row) -> dict[str, Any]:
    """Returns a row in a form for reading.

    Example:
        >>> said({"arm": "random", "share": 0.2, "kB": 12.345, "map50": 0.78123, "gap map50": 0.17, "p50 ms": None})
        {'arm': 'random', 'share': '20 %', 'kB': '12.3', 'map50': '0.7812', 'gap map50': '17 %', 'p50 ms': '-'}
    """
    return {name: _cell(name, value) for name, value in row.items()}


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if name in ("share", "sent", "units", "failed", "reused") or name.startswith("gap "):
        return (
            f"{value * 100:.3g} %"
            if name in ("failed", "sent", "units", "reused")
            else f"{value:.0%}".replace("%", " %")
        )
    if name.endswith("ms"):
        return _ms(value)
    return f"{value:.3g}" if name in ("kB", "device MMACs") else f"{value:.4f}"


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
