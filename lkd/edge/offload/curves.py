"""Curves of each gate: its best shares of the test units, from few to nearly all."""

from collections.abc import Mapping
from dataclasses import replace
from math import isnan

import numpy as np

from lkd.edge.nms import Array
from lkd.edge.offload.choice import best
from lkd.edge.offload.gates import Gate, Oracle, Random
from lkd.edge.offload.point import Point
from lkd.edge.offload.trial import Trial, mean_point

SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9)
"""Shares of whole samples, or of the bytes of all tiles."""


def ranks(gate: Gate, trial: Trial) -> Array:
    """Returns scores `(N, U)` by which units are chosen; estimated gains of tiles are divided by their bytes.

    Raises:
        ValueError: If a gate gives no finite number for each unit.
    """
    answers, nbytes = trial.answers, trial.answers.nbytes
    if not isinstance(gate, Oracle):  # other gates must not see labels or the teacher's answers
        answers = replace(answers, remote=[], truth=None)
    scores = np.asarray(gate.score(trial.task, answers), np.float64)
    if scores.shape != nbytes.shape or not np.isfinite(scores).all():
        wrong = f"gives the shape {scores.shape}" if scores.shape != nbytes.shape else "gives NaN or infinity"
        raise ValueError(
            f"score of gate={type(gate).__name__} {wrong}, and must give a finite number for each sample and unit, {nbytes.shape}."
        )
    return scores / nbytes if gate.gains and nbytes.shape[1] > 1 else scores


def costs(trial: Trial) -> Array:
    """Returns costs `(N, U)` that shares refer to: 1 for a sample, or a tile's bytes, as sky costs little."""
    nbytes = trial.answers.nbytes
    return nbytes if nbytes.shape[1] > 1 else np.ones_like(nbytes)


def curve(gate: Gate, trial: Trial) -> dict[float, Point]:
    """Measures each share of the units that a gate chooses first.

    Args:
        gate: Gate that chooses.
        trial: Trial of the test data.
    """
    scores, cost = ranks(gate, trial), costs(trial)
    return {share: trial.point(gate.name, best(scores, cost, share)) for share in SHARES}


def random_curve(trial: Trial, draws: int, seed: int) -> dict[float, Point]:
    """Returns the mean curve of several random draws."""
    drawn = [curve(Random(seed * 1000 + draw), trial) for draw in range(draws)]
    return {share: mean_point([one[share] for one in drawn]) for share in SHARES}


def ends(trial: Trial) -> tuple[Point, Point]:
    """Returns two points: nothing is sent, and everything is sent without waiting for the student."""
    shape = trial.answers.nbytes.shape
    nothing = trial.point("device-only", np.zeros(shape, bool))
    everything = trial.point("server-only", np.ones(shape, bool), device_ms=0.0)
    return nothing, everything if isnan(trial.mmacs) else replace(everything, mmacs=0.0)


def closed(
    point: Point, device: Mapping[str, float], teacher: Mapping[str, float], metric: str
) -> float | None:
    """Returns the closed share of the gap between student and teacher, or None if the teacher is no better.

    Args:
        point: Point with the metric.
        device: Metrics of the student.
        teacher: Metrics of the teacher if no message failed.
        metric: Name of the metric.
    """
    gap = teacher[metric] - device[metric]
    return (point.metrics[metric] - device[metric]) / gap if gap > 1e-9 else None


def nothing_to_gain(device: Point, teacher: Mapping[str, float], metric: str) -> str | None:
    """Returns a note if the teacher is no better than the student, since there is no gap to close then."""
    if (theirs := teacher[metric]) > (ours := device.metrics[metric]):
        return None
    return (
        f"The teacher is no better than the student on what is sent ({metric} {theirs:.4f} against {ours:.4f}), so there is no gap to "
        "close: look at payload, teacher_size and the teacher itself."
    )


def verdict(curves: Mapping[str, Mapping[float, Point]], metric: str) -> str | None:
    """Says whether the learned gate beats the camera mean, in the mean over shares.

    None without one of them.
    """
    known = {name: np.mean([p.metrics[metric] for p in found.values()]) for name, found in curves.items()}
    if "learned" not in known or "camera mean" not in known:
        return None
    better = known["learned"] - known["camera mean"]
    if better > 0:
        return f"The learned gate is better than the camera mean by {better:.4f} {metric}, in the mean over all shares."
    return f"No learned gate beats the camera mean ({better:+.4f} {metric}, in the mean over all shares)."
