"""A student's answer to a frame, from a file or a checkpoint."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from lkd.checks import expect
from lkd.edge.nms import Array
from lkd.edge.predict.frame import Found, Frame
from lkd.edge.predict.prepare import Preparation, back
from lkd.edge.predict.timing import FrameTimes

PARTS = ["decode", "prepare", "network", "NMS", "write"]


class RunnableStudent(Protocol):
    """A model that predicts: `lkd.edge.Exported`, or a checkpoint with the same methods.

    Attributes:
        spec: The metadata of a file: kind, inputs, classes, thresholds.
    """

    spec: dict[str, Any]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Any]:
        """Returns the outputs of the network."""
        ...

    def boxes(self, found: dict[str, Any], size: int) -> list[dict[str, Array]]:
        """Returns the detections of each of `size` pictures."""
        ...


class Predictor:
    """Student that is asked about frames, one by one.

    Args:
        student: A detector or a classifier of pictures.
        who: Name of the student, for messages.
        score_threshold: Lowest score of boxes; None for .25, or the student's own threshold, if that is
            higher.

    Raises:
        ValueError: For a student that takes no pictures, or a threshold below the student's own.
    """

    def __init__(self, student: RunnableStudent, who: str, score_threshold: float | None = None) -> None:
        spec = student.spec
        if spec["kind"] not in ("boxes", "logits"):
            names = ", ".join(one["name"] for one in spec["inputs"])
            raise ValueError(
                f"{who} takes several inputs ({names}), which no picture has: leave SOURCE out, and give --config and --ckpt_path, whose "
                "data are predicted then."
            )
        self.student, self.prepare = student, Preparation(spec["inputs"][0], who)
        self.parts = PARTS
        self.classes: list[str] = spec["classes"]
        self.detects = spec["kind"] == "boxes"
        self.score_threshold = self._threshold(score_threshold, who) if self.detects else 0.0
        if self.detects:  # a suppression beside the network need not look at boxes that will be dropped
            student.spec = {**spec, "score_threshold": self.score_threshold}
        if not self.detects and score_threshold is not None:
            raise ValueError(
                f"score_threshold={score_threshold:g} is of boxes, and {who} is a classifier: leave it out."
            )

    def _threshold(self, asked: float | None, who: str) -> float:
        own = float(self.student.spec["score_threshold"])
        if asked is None:
            return max(0.25, own)
        expect(score_threshold=asked, ge=0, le=1)
        if asked < own:
            raise ValueError(
                f"score_threshold={asked:g}: {who} drops boxes up to {own:g} itself; give that or more, or export it with a lower one."
            )
        return asked

    def __call__(self, frame: Frame, clock: FrameTimes) -> Found:
        """Returns `boxes` in pixels of the picture, `scores` and `labels`, or `probabilities (C,)`.

        Args:
            frame: The picture.
            clock: Times the parts.
        """
        with clock("prepare"):
            x, ratio = self.prepare(frame.image)
        with clock("network"):
            raw = self.student.run({self.prepare.name: x})
        if not self.detects:
            return {"probabilities": softmax(raw["logits"][0])}
        with clock("NMS"):
            (found,) = self.student.boxes(raw, 1)
            sure = found["scores"] > self.score_threshold
            found = {name: rows[sure] for name, rows in found.items()}
            return back(found, ratio, *frame.image.shape[:2])


def softmax(logits: Array) -> Array:
    """Returns the probabilities of logits `(..., C)`.

    Example:
        >>> softmax(np.array([0.0, np.log(3.0)])).round(3).tolist()
        [0.25, 0.75]
    """
    raised = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)
