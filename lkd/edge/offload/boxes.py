"""`BoxTask`: the task of a detector."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answer, Answers
from lkd.edge.offload.scale import Scale
from lkd.edge.offload.task import OffloadTask
from lkd.edge.offload.tiles import Tiles
from lkd.metrics.average_precision import Matched, match, overlaps, pooled, pooled_ap

SEEN = 0.25
"""Lowest score of a box that counts as a seen object, as in pictures."""
SAME = 0.5
"""Lowest overlap of two boxes that mean one object."""
FAINT = 0.1
"""Lowest score of a box that says anything of its picture: below are thousands of guesses."""
SMALL = 0.05
"""Width of a small box, as a share of the picture's longer side."""


class BoxTask(OffloadTask):
    """Task of finding boxes.

    Args:
        tiles: Tiles of a frame that can be sent. Default: the whole frame.
        most: Most detections of a class that count in a frame.
        scale: Function that brings the teacher's scores to the student's scale. Default: none.
    """

    name, metrics = "boxes", ("map50", "map", "precision", "recall")

    def __init__(self, tiles: Tiles | None = None, most: int = 300, scale: Scale | None = None) -> None:
        self.tiles, self.most, self.scale = tiles, most, scale

    def stands(self, answers: Answers, sample: int, sent: Array) -> Answer:
        """Returns the student's boxes, and the teacher's where a unit was sent."""
        local, units = answers.local[sample], answers.remote[sample]
        if not sent.any():
            return local
        remote = {u: self._scaled(units[u]) for u in np.flatnonzero(sent).tolist()}
        if self.tiles is None:
            return remote[0]
        return self.tiles.merge(local, remote, *answers.sizes[sample].tolist())

    def _scaled(self, found: Answer) -> Answer:
        return found if self.scale is None else {**found, "scores": self.scale(found["scores"])}

    def judged(self, answer: Answer, truth: Answer) -> Matched:
        """Matches boxes with objects."""
        return match(answer, truth, self.most)

    def pooled(self, judged: Sequence[Any]) -> dict[str, float]:
        """Returns average precision over all frames."""
        return pooled(judged)

    def marginal(self, judged: Sequence[Any], other: Sequence[Sequence[Any]], metric: str) -> Array:
        """Returns what each frame adds when it alone is exchanged, as AP is no sum over frames."""
        frames = cast(list[Matched], list(judged))

        def value() -> float:
            return pooled_ap(frames, metric) if metric in ("map50", "map") else pooled(frames)[metric]

        before, changes = value(), []
        for n, units in enumerate(other):
            kept = frames[n]
            for frames[n] in units:
                changes.append(value() - before)
            frames[n] = kept
        return np.array(changes).reshape(len(other), -1)

    def gain(self, answers: Answers) -> Array:
        """Returns how much surer the teacher is of its objects than the student, whose unseen ones score 0.

        Average precision depends on scores as well as on boxes, so an object that the student sees faintly is
        half missed.
        """
        found = np.zeros(answers.nbytes.shape)
        for n, local in enumerate(answers.local):
            for u, theirs in enumerate(self.standing(answers, n)):
                seen = theirs["scores"] > SEEN
                same = overlaps(theirs["boxes"][seen], local["boxes"]) >= SAME
                same &= theirs["labels"][seen][:, None] == local["labels"][None]
                ours = np.where(same, local["scores"][None], 0.0).max(1, initial=0.0)
                found[n, u] = (theirs["scores"][seen] - ours).clip(0).sum()
        return found

    def standing(self, answers: Answers, n: int) -> list[Answer]:
        """Returns the teacher's boxes that stand if a unit is sent, in pixels of the frame."""
        if self.tiles is None:
            return list(answers.remote[n])
        size = answers.sizes[n].tolist()
        return [self.tiles.standing(u, found, *size) for u, found in enumerate(answers.remote[n])]

    def views(self, answers: Answers) -> list[list[Answer]]:
        """Returns what the student sees in each unit, faint boxes too: N lists of U answers.

        Each has `widths` and `heights` (D,), as shares of the frame's longer side, and `scores` (D,).
        """
        found = []
        for local, size in zip(answers.local, answers.sizes.tolist(), strict=True):
            clear = {name: rows[local["scores"] > FAINT] for name, rows in local.items()}
            parts = [clear] if self.tiles is None else self.tiles.parts(clear, *size)
            found.append([_view(part, max(size)) for part in parts])
        return found

    def features(self, answers: Answers) -> Array:
        """Returns counts, scores and sizes of the boxes of each unit."""
        return np.array([[_statistics(view) for view in views] for views in self.views(answers)])


def entropies(scores: Array) -> Array:
    """Returns the entropies, in nats, of boxes that exist with the probability of their score."""
    p = scores.clip(1e-7, 1 - 1e-7)
    return -(p * np.log(p) + (1 - p) * np.log(1 - p))


def _statistics(view: Answer) -> list[float]:
    scores, widths, heights = view["scores"], view["widths"], view["heights"]
    seen = scores > SEEN
    some = len(scores) > 0
    return [
        len(scores),
        seen.sum(),
        scores.sum(),
        scores.mean() if some else 0.0,
        ((scores > FAINT) & (scores < 0.5)).sum(),
        ((scores > FAINT) & (scores < 0.5)).mean() if some else 0.0,
        entropies(scores).sum(),
        (widths < SMALL).sum(),
        (widths < SMALL / 2).sum(),
        (widths < SMALL / 4).sum(),
        (widths[seen] < SMALL).sum(),
        np.median(widths) if some else 0.0,
        widths.min() if some else 0.0,
        (widths * heights).sum(),
    ]


def _view(found: Answer, longer: int) -> Answer:
    sides = (found["boxes"][:, 2:] - found["boxes"][:, :2]) / longer
    return {"widths": sides[:, 0], "heights": sides[:, 1], "scores": found["scores"].astype(np.float64)}
