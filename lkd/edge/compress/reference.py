"""The dense student in memory, with whose test every stage's files are measured and compared."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lkd.edge.compress.agreement import Agreement
from lkd.edge.compress.macs import macs
from lkd.edge.export.kind import ExportPart, StudentKind, arrays
from lkd.edge.export.measure import Metrics, measured
from lkd.edge.export.students import TrainedStudent
from lkd.edge.exported import Exported
from lkd.edge.latency import latencies
from lkd.metrics.direction import rises

MAIN = ("map", "map50")
"""Metrics of a detector that are used first; for other students it is the first that is better when higher."""


@dataclass(frozen=True)
class Measures:
    """Measurements of a stage's files.

    Of several files (one for each camera), the worst size, time and drop count.

    Attributes:
        metric: Name of the metric.
        value: Value of the metric, over all test data.
        drop: How much worse it is than that of the dense student's file.
        mb: Size in megabytes (1e6 bytes).
        p50_ms: Median time of one sample.
        p95_ms: 95th percentile of the time of one sample.
        cpu_ms: CPU time of one sample.
        of_parent: Median time as a share of that of the dense student's file, timed in turns.
        of_start: Median time as a share of that of the file that the step started from, timed in turns.
        agreement: Agreement with the dense student, see `Agreement`.
        metrics: Metrics of each file, by the name of its part.
        latency: Latency of each file, by the name of its part.
    """

    metric: str
    value: float
    drop: float
    mb: float
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    of_parent: float
    of_start: float
    agreement: float | None
    metrics: dict[str, Metrics]
    latency: dict[str, dict[str, Any]]


class Reference:
    """A dense student, with what its test shows it.

    Args:
        student: The student.
        kind_of: Function that returns the student's kind.
        metric: Metric by which it is judged; None for the usual one.
        threads: Number of threads in all timing.
    """

    def __init__(
        self,
        student: TrainedStudent,
        kind_of: Callable[[TrainedStudent], StudentKind],
        metric: str | None,
        threads: int,
    ) -> None:
        self.student, self.metric, self.threads = student, metric, threads
        self.kind = kind_of(student)

    @cached_property
    def parts(self) -> dict[str, ExportPart]:
        """Parts that become files, by name; tests the student first."""
        kind, student = self.kind, self.student
        watched = kind.watch(getattr(kind.module, kind.method))
        self._seen = measured(kind, student.test, watched, as_it_is=True, ckpt_path=student.ckpt_path)
        return {part.name: part for part in kind.parts()}

    def check(self) -> None:
        """Checks that the student's test has the metric, by testing the student as it is.

        Raises:
            ValueError: If the test does not have it; the message lists what it has.
        """
        if self.parts:
            self._name(self._seen.get("") or next(iter(self._seen.values())))

    def macs(self) -> int:
        """Returns the multiply-accumulates of one sample, those of the largest part if there are several."""
        return max(macs(part.network, part.inputs) for part in self.parts.values())

    def measure(self, files: Sequence[Path], start: Sequence[Path], parent: Sequence[Path]) -> Measures:
        """Measures the files of a stage.

        Args:
            files: Files of the stage, one for each part.
            start: Files of the stage that it was made from.
            parent: Files of the dense student.

        Raises:
            ValueError: If nothing was measured.
        """
        before = self._metrics(parent)[0] if list(files) != list(parent) else None
        after, agreement = self._metrics(files)
        before = before or after
        name = self._name(before.get("") or next(iter(before.values())))
        timed, share = {}, {"parent": 0.0, "start": 0.0}
        for part, path, first, dense in zip(self.parts, files, start, parent, strict=True):
            paths = list(dict.fromkeys([dense, first, path]))
            found = dict(
                zip(paths, latencies(paths, arrays(self.parts[part].inputs), self.threads), strict=True)
            )
            timed[part] = found[path]
            for who, other in (("parent", dense), ("start", first)):
                share[who] = max(share[who], found[path]["p50_ms"] / max(found[other]["p50_ms"], 1e-3))
        overall = after.get("") or {name: sum(one[name] for one in after.values()) / len(after)}
        return Measures(
            metric=name,
            value=overall[name],
            drop=max(_drop(name, before[part], after[part]) for part in self.parts),
            mb=max(path.stat().st_size for path in files) / 1e6,
            **{key: max(one[key] for one in timed.values()) for key in ("p50_ms", "p95_ms", "cpu_ms")},
            of_parent=share["parent"],
            of_start=share["start"],
            agreement=agreement.share,
            metrics={part: after[part] for part in self.parts},
            latency=timed,
        )

    def drop(self, files: Sequence[Path], parent: Sequence[Path]) -> float:
        """Returns how much worse the files' metric is than the dense student's files', without timing."""
        before, after = self._metrics(parent)[0], self._metrics(files)[0]
        name = self._name(before.get("") or next(iter(before.values())))
        return max(_drop(name, before[part], after[part]) for part in self.parts)

    def _metrics(self, files: Sequence[Path]) -> tuple[dict[str, Metrics], Agreement]:
        key = tuple(files)
        if key not in self._known:
            options = self.kind.options()
            rules = ("iou_threshold", "max_detections", "multi_label")
            agreement = Agreement(**{name: options[name] for name in rules if name in options})
            made = {part: Exported(path) for part, path in zip(self.parts, files, strict=True)}
            method = self.kind.stand_in(self.parts, made, dict.fromkeys(self.parts, agreement))
            self._known[key] = measured(self.kind, self.student.test, method, as_it_is=False), agreement
        return self._known[key]

    @cached_property
    def _known(self) -> dict[tuple[Path, ...], tuple[dict[str, Metrics], Agreement]]:
        return {}

    def _name(self, metrics: Metrics) -> str:
        finite = [name for name, value in metrics.items() if math.isfinite(value)]
        usual = [*(n for n in MAIN if n in finite), *(n for n in finite if rises(n)), *finite]
        if self.metric is not None and self.metric not in finite:
            raise ValueError(
                f"metric={self.metric!r} is not among what the test measures: {', '.join(finite) or 'nothing that is a number'}."
            )
        if not usual:
            raise ValueError(
                "no metric of the test data is a number, as where none of them has an object: give test data with labels."
            )
        return self.metric or usual[0]


def _drop(name: str, before: Metrics, after: Metrics) -> float:
    """Returns the drop of a metric; NaN if the file's value is NaN, so that no limit is obeyed."""
    if not math.isfinite(before[name]):
        return 0.0  # a camera whose test data have no object
    return before[name] - after[name] if rises(name) else after[name] - before[name]
