"""`Budget`: what may be spent, or what is to be reached.

The threshold follows from the budget on calibration data.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from lkd.edge.nms import Array
from lkd.edge.offload.choice import thresholds
from lkd.edge.offload.point import Point
from lkd.edge.offload.trial import Trial

UNITS = {
    "rate": "of the samples",
    "kb": "kB a sample",
    "kb_per_second": "kB a second of the busiest camera",
    "mb_per_day": "MB a day of the busiest camera",
    "p95_ms": "ms at the 95th percentile",
    "reach": "",
}


class Chosen(NamedTuple):
    """A threshold, with what it did on calibration data."""

    threshold: float
    calibration: Point


@dataclass(frozen=True)
class Budget:
    """A budget or a goal: exactly one of these arguments.

    Args:
        rate: Largest share of the samples of which anything is sent.
        kb: Kilobytes (1e3 bytes) per sample, in the mean over all.
        kb_per_second: Kilobytes per second of each camera, so the camera that sends most decides; needs
            `fps`.
        mb_per_day: Megabytes (1e6 bytes) per day of each camera, likewise.
        p95_ms: 95th percentile of the time from a sample to its answer.
        reach: Value of the metric to reach with as little as possible; needs labels of the calibration data.

    Raises:
        ValueError: For none or several of them, or an impossible number.

    Example:
        >>> Budget(rate=0.2).asked
        ('rate', 0.2)
    """

    rate: float | None = None
    kb: float | None = None
    kb_per_second: float | None = None
    mb_per_day: float | None = None
    p95_ms: float | None = None
    reach: float | None = None

    def __post_init__(self) -> None:
        given = self._given()
        if len(given) != 1:
            said = ", ".join(f"{k}={v:g}" for k, v in given.items()) or "nothing"
            raise ValueError(
                f"budget says {said}, and takes exactly one of {', '.join(UNITS)}: a threshold follows from one thing alone."
            )
        (name, value), shares = self.asked, ("rate", "reach")
        if not 0 < value < float("inf") or (name in shares and value > 1):
            raise ValueError(
                f"budget.{name}={value:g} must be above 0{' and at most 1' if name in shares else ''}."
            )

    def _given(self) -> dict[str, float]:
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def asked(self) -> tuple[str, float]:
        """Name of the one that is given, and its value."""
        return next(iter(self._given().items()))

    def check(self, fps: float | None, labels: bool) -> None:
        """Refuses a budget that cannot be computed.

        Args:
            fps: Samples per second, if it is known.
            labels: Whether labels of the calibration data may be read.

        Raises:
            ValueError: If the budget needs one of them and it is missing.
        """
        name, value = self.asked
        if name in ("kb_per_second", "mb_per_day") and fps is None:
            raise ValueError(f"budget.{name}={value:g} needs fps, the samples a second of each camera.")
        if name == "reach" and not labels:
            raise ValueError(
                f"budget.reach={value:g} is measured on calibration data, whose labels are not read: allow it by labels=true."
            )

    def of(self, point: Point, metric: str, fps: float | None) -> float:
        """Returns a point's value of the budget's quantity."""
        name, _ = self.asked
        if name == "reach":
            return point.metrics[metric]
        if name == "p95_ms":
            return point.p95_ms
        if name == "rate":
            return point.rate
        a_second = point.kb_busiest * (fps or 0.0)  # each camera has the budget, whatever others save
        return {"kb": point.kb, "kb_per_second": a_second, "mb_per_day": a_second * 86.4}[name]

    def choose(self, scores: Array, trial: Trial, metric: str) -> Chosen:
        """Chooses the threshold: as much as the budget allows, or as little as reaches the metric.

        Args:
            scores: Scores of calibration units, `(N, U)`.
            trial: Trial of the calibration data.
            metric: Metric that is to be reached.

        Raises:
            ValueError: If no threshold meets the budget; the message says how near the best one comes.
        """
        name, value = self.asked
        fps = trial.conditions.fps
        nothing = [np.inf] if name == "reach" else []  # sending nothing may be enough
        tried = [*nothing, *thresholds(scores).tolist()]
        found = [Chosen(t, trial.point("calibration", scores >= t)) for t in tried]
        has = [self.of(chosen.calibration, metric, fps) for chosen in found]
        if name == "reach":
            good = [chosen for chosen, reached in zip(found, has, strict=True) if reached >= value]
            if good:
                return good[0]
        else:
            good = [chosen for chosen, spent in zip(found, has, strict=True) if spent <= value]
            if good:
                return max(good, key=lambda chosen: chosen.calibration.units)
        raise ValueError(
            self._unmet(name, value, found, has) + _tied(scores, found[has.index(min(has))], name)
        )

    def said(self, calibration: Point, test: Point, metric: str, fps: float | None) -> str:
        """Says what was asked, and what was reached."""
        name, value = self.asked
        here, there = (self.of(point, metric, fps) for point in (calibration, test))
        words = f"{value:.4g} {UNITS[name]}".rstrip()
        return f"Budget {name}: {words} asked, {here:.4g} on calibration data, {there:.4g} on test data."

    @staticmethod
    def _unmet(name: str, value: float, found: Sequence[Chosen], has: Sequence[float]) -> str:
        place = has.index(max(has) if name == "reach" else min(has))
        near, words = has[place], f" {UNITS[name]}".rstrip()
        sends = found[place].calibration.units
        return (
            f"budget.{name}={value:.4g} is met by no threshold on the calibration data that sends anything: the nearest has {near:.4g}"
            f"{words}, and sends {sends:.1%} of the units."
        )


def _tied(scores: Array, nearest: Chosen, name: str) -> str:
    """Says how many units the least that can be sent is, where their scores are equal."""
    count = int((scores == nearest.threshold).sum())
    if name == "reach" or count < 2 or nearest.threshold != scores.max():
        return ""
    return (
        f" {count} of {scores.size} units share the highest score, {nearest.threshold:.4g}, so a threshold sends all of them or none: take a "
        "gate that tells them apart."
    )
