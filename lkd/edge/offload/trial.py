"""`Trial`: costs and results of a choice of units, on one split and over one link."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from lkd.checks import expect
from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answers
from lkd.edge.offload.link import Link, Server, travel
from lkd.edge.offload.point import Point
from lkd.edge.offload.task import Judge, OffloadTask

ALONE = 1e6
"""Seconds between samples if no sample waits for another."""


@dataclass(frozen=True)
class Conditions:
    """Conditions under which samples are sent.

    Attributes:
        link: Link between each camera and the server.
        fps: Samples per second of each camera; None if no sample waits for another.
        workers: Requests that the server works on at once.
        server_speed: How many times faster the server is than the machine that the teacher was timed on.
        device_ms: Time of the student on the device; None for what was measured here.
        seed: Seed of jitter and loss.
    """

    link: Link
    fps: float | None = None
    workers: int = 1
    server_speed: float = 1.0
    device_ms: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        expect(fps=self.fps, gt=0, lt=math.inf, none="samples that wait for no other")
        expect(server_speed=self.server_speed, gt=0, lt=math.inf)
        expect(device_ms=self.device_ms, gt=0, lt=math.inf, none="what was measured here")
        Server(0.0, self.workers)  # refuses a wrong number of workers before anything is asked
        expect(seed=self.seed, ge=0)


class Trial:
    """Answers of a split under conditions.

    Args:
        task: What the answers mean.
        answers: Answers on the split. Without their truth, points have no metrics.
        conditions: Conditions of link and server.
        mmacs: Work of the device for a sample, in millions of multiply-accumulates; NaN if not counted.
    """

    def __init__(
        self, task: OffloadTask, answers: Answers, conditions: Conditions, mmacs: float = float("nan")
    ) -> None:
        self.task, self.answers, self.conditions, self.mmacs = task, answers, conditions, mmacs
        self.judge = Judge(task, answers) if answers.truth is not None else None
        self.names = np.array(answers.cameras)
        self.of_camera = [self.names == name for name in np.unique(self.names)]
        self.arrivals = _arrivals(self.names, conditions.fps)
        given = conditions.device_ms
        self.device_ms = float(np.median(answers.device_ms)) if given is None else given
        self.server_ms = float(np.median(answers.server_ms)) / conditions.server_speed

    def metrics(self, stands: Array, by: Array | None = None) -> dict[str, float]:
        """Returns metrics if the server has answered the units `stands (N, U)`; empty without labels.

        Sample n has the final answer to sample `by[n]`, `(N,)`. Default: its own.
        """
        return {} if self.judge is None else self.judge(stands, by)

    def point(
        self, arm: str, sent: Array, device_ms: Array | float | None = None, by: Array | None = None
    ) -> Point:
        """Measures what a choice of units costs and gives.

        Args:
            arm: Name of what decided.
            sent: `(N, U)` bool, the units that are sent.
            device_ms: Time at which the device has decided, `(N,)` or one for all; None for the time of its
                own answer.
            by: `(N,)`, the sample whose final answer each sample takes; nothing is sent of those that take
                another's. Default: each has its own.
        """
        reused = np.zeros(len(sent), bool) if by is None else by != np.arange(len(sent))
        sent = sent & ~reused[:, None]
        units = sent.sum(1)
        nbytes = (self.answers.nbytes * sent).sum(1)
        trip = travel(
            self.conditions.link,
            Server(self.server_ms, self.conditions.workers),
            self.arrivals,
            nbytes,
            self.device_ms if device_ms is None else device_ms,
            self.conditions.seed,
            self.names,
            work=units,
        )
        stands = sent & ~trip.failed[:, None]
        p50, p95 = np.percentile(trip.latency_ms, [50, 95]).tolist()
        return Point(
            arm=arm,
            rate=float((units > 0).mean()),
            units=float(sent.mean()),
            kb=float(nbytes.mean() / 1e3),
            metrics=self.metrics(stands, by),
            p50_ms=p50,
            p95_ms=p95,
            failed=float(trip.failed.mean()),
            reused=float(reused.mean()),
            server_ms=float(trip.server_ms.mean()),
            mmacs=self.mmacs,
            kb_busiest=max(float(nbytes[own].mean() / 1e3) for own in self.of_camera),
        )


def _arrivals(names: Array, fps: float | None) -> Array:
    """Returns the time of each sample, in seconds: a camera's one after the other, all cameras at once."""
    places = np.zeros(len(names))
    for name in np.unique(names):
        mine = names == name
        places[mine] = np.arange(mine.sum())
    return np.arange(len(names)) * ALONE if fps is None else places / fps


def mean_point(points: Sequence[Point]) -> Point:
    """Returns the mean of points of one arm, as of several draws."""
    numbers = [f.name for f in fields(Point) if f.name not in ("arm", "metrics")]
    means = {name: float(np.mean([getattr(point, name) for point in points])) for name in numbers}
    metrics = {name: float(np.mean([p.metrics[name] for p in points])) for name in points[0].metrics}
    return Point(arm=points[0].arm, metrics=metrics, **means)
