"""Reuse in a cascade: a frame that looks like an earlier one takes its final answer, before the gate."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from functools import partial

import numpy as np

from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answer
from lkd.edge.offload.boxes import SEEN
from lkd.edge.offload.frames import FrameAnswerSource
from lkd.edge.offload.point import Point
from lkd.edge.offload.source import Split, timed
from lkd.edge.offload.trial import Trial
from lkd.edge.predict.reuse.asked import Reuse
from lkd.edge.predict.reuse.audits import Audits, Counts, agreement, ratio
from lkd.edge.reuse import ResultCache


@dataclass
class Taken:
    """Which earlier answers the frames of a split take.

    Attributes:
        by: `(N,)`, number of the frame whose final answer each frame takes: its own if it is computed.
        looked: `(N,)` bool, whether it was compared with a kept frame.
        look_ms: Time of a comparison, median.
        oldest_s: Largest age of an answer that was taken, in seconds.
        audited: Hits that were computed all the same.
        agreed: What these have in common with the kept answers.
    """

    by: Array
    looked: Array
    look_ms: float = 0.0
    oldest_s: float = 0.0
    audited: int = 0
    agreed: Counts = (0.0, 0)

    @property
    def fresh(self) -> Array:
        """`(N,)` bool, whether a frame is computed, and may be sent."""
        found: Array = self.by == np.arange(len(self.by))
        return found


def take(
    asked: Reuse,
    cameras: Sequence[str],
    seconds: Sequence[float],
    image: Callable[[int], Array],
    pair: Callable[[int, int], tuple[Answer, Answer]],
    audits: Audits,
) -> Taken:
    """Goes through the frames of a split, in the order of camera and time, as `predict --reuse` does.

    An audit compares boxes that count as seen. The new answer replaces the kept one where they do not agree.

    Args:
        asked: Settings of the reuse.
        cameras: Camera of each frame.
        seconds: Time of each frame.
        image: Reads frame n, `(H, W, 3)` uint8.
        pair: Returns answers to two frames that differ if the scene does.
        audits: Draws audits, and stops cameras; those that it has stopped already are computed.
    """
    cache = ResultCache[int](asked.distance, asked.ttl_s, asked.cells)
    taken = Taken(np.arange(len(cameras)), np.zeros(len(cameras), bool))
    spent = []
    for n in sorted(range(len(cameras)), key=lambda n: (cameras[n], seconds[n])):
        if cameras[n] in audits.stopped:
            continue
        picture = image(n)
        look, ms = timed(partial(cache.look, cameras[n], seconds[n], picture))
        spent.append(ms)
        taken.looked[n] = True
        if look.hit is None:
            cache.keep(look, n)
        elif not audits.drawn():
            taken.by[n], taken.oldest_s = look.hit.answer, max(taken.oldest_s, look.age or 0.0)
        else:
            kept, fresh = pair(look.hit.answer, n)
            counts = agreement(_clear(kept), _clear(fresh))
            taken.agreed = taken.agreed[0] + counts[0], taken.agreed[1] + counts[1]
            taken.audited += 1
            audits.add(cameras[n], counts)
            if ratio(*counts) < asked.agree:
                cache.keep(look, n)
    taken.look_ms = float(np.median(spent)) if spent else 0.0
    return taken


def with_reuse(
    asked: Reuse,
    frames: FrameAnswerSource,
    calibration: Trial,
    test: Trial,
    sent: Sequence[Array],
    before: Point,
    metric: str,
) -> tuple[Point | None, list[str]]:
    """Measures the operating point of a cascade whose frames are first compared with earlier ones.

    All hits of the calibration data are audited, so that a camera whose scene moves takes part in no reuse;
    of the test data `asked` draws some, as a device would.

    Args:
        asked: Settings of the reuse.
        frames: Source of the frames.
        calibration: Trial of the calibration data.
        test: Trial of the test data.
        sent: The units `(N, U)` that the gate sends of both.
        before: The operating point without reuse.
        metric: Metric that decides.

    Returns:
        The point, or None if no camera takes part; and what to say of it.
    """
    audits = Audits(1.0, asked.agree, asked.seed)
    taken = _taken(asked, frames, "calibration", calibration, sent[0], audits)
    cameras = set(test.answers.cameras)
    notes = [_stop(asked, audits, cameras, "calibration")] if audits.stopped else []
    if cameras <= set(audits.stopped):
        return None, notes
    stopped, audits = audits.stopped, Audits(agree=asked.agree, seed=asked.seed)
    audits.stopped.update(stopped)
    taken = _taken(asked, frames, "test", test, sent[1], audits)
    if len(audits.stopped) > len(stopped):
        notes.append(_stop(asked, audits, cameras, "test", set(stopped)))
    device_ms = np.where(taken.fresh, test.device_ms, 0.0) + np.where(taken.looked, taken.look_ms, 0.0)
    point = test.point(f"{before.arm}, reuse", sent[1], device_ms, taken.by)
    return point, [*notes, _said(taken, before, point, metric)]


def _taken(
    asked: Reuse, frames: FrameAnswerSource, split: Split, trial: Trial, sent: Array, audits: Audits
) -> Taken:
    return take(
        asked,
        frames.cameras(split),
        frames.seconds(split, asked.step_s),
        lambda n: frames.image(split, n),
        partial(_pair, trial, sent),
        audits,
    )


def _pair(trial: Trial, sent: Array, kept: int, n: int) -> tuple[Answer, Answer]:
    """Returns the final answers to two frames if the same units of both are sent, else the student's own.

    The teacher's and the student's differ though nothing has moved.
    """
    same = sent[n] if (sent[kept] == sent[n]).all() else np.zeros(sent.shape[1], bool)
    before, after = (trial.task.stands(trial.answers, m, same) for m in (kept, n))
    return before, after


def _clear(found: Answer) -> dict[str, Array]:
    """Returns the boxes that count as seen: thousands of faint guesses are never the same."""
    return {name: rows[found["scores"] > SEEN] for name, rows in found.items()}


def _stop(
    asked: Reuse, audits: Audits, cameras: set[str], split: Split, known: Set[str] = frozenset()
) -> str:
    new = {name: agreed for name, agreed in audits.stopped.items() if name in cameras - known}
    agreed = ", ".join(f"{name or 'the only one'} {value:.2f}" for name, value in new.items())
    return (
        f"Reuse stopped for {len(new)} of {len(cameras)} cameras by the {split} data: answers to frames that look alike agree less "
        f"than agree={asked.agree:g} ({agreed}); these scenes move more than distance={asked.distance:g} tells, and all their frames are "
        "computed."
    )


def _said(taken: Taken, before: Point, after: Point, metric: str) -> str:
    """Says what reuse saved, and at what price."""
    audits = f"{taken.audited} more looked the same and were audited, with an agreement of {ratio(*taken.agreed):.2f}"
    return (
        f"Reuse: {(~taken.fresh).sum()} of {len(taken.by)} test frames took the final answer of an earlier one, at most {taken.oldest_s:.4g} s "
        f"old, and {audits if taken.audited else 'no hit was audited'}. Requests {before.rate:.1%} without and {after.rate:.1%} with reuse, "
        f"{before.kb:.3g} and {after.kb:.3g} kB a sample, {metric} {before.metrics[metric]:.4f} and {after.metrics[metric]:.4f} "
        f"({after.metrics[metric] - before.metrics[metric]:+.4f})."
    )
