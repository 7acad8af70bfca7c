"""`Classes`: the task of a classifier of pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answer, Answers
from lkd.edge.offload.task import Task


class Classes(Task):
    """Probabilities; a picture is sent whole."""

    name, metrics = "classes", ("acc",)

    def stands(self, answers: Answers, sample: int, sent: Array) -> Answer:
        """The teacher's if the picture was sent."""
        return answers.remote[sample][0] if sent[0] else answers.local[sample]

    def judged(self, answer: Answer, truth: Answer) -> bool:
        """Whether the most probable class is right."""
        return bool(answer["probabilities"].argmax() == truth["label"][0])

    def pooled(self, judged: Sequence[Any]) -> dict[str, float]:
        """Accuracy."""
        return {"acc": float(np.mean(judged))}

    def marginal(self, judged: Sequence[Any], other: Sequence[Sequence[Any]], metric: str) -> Array:
        """Accuracy adds up over samples."""
        return (np.array(other, float) - np.array(judged, float)[:, None]) / len(judged)

    def gain(self, answers: Answers) -> Array:
        """The accuracy that the teacher expects to add: how much more probable it takes its class to be than the student's."""
        theirs = np.stack([units[0]["probabilities"] for units in answers.remote])
        rows, chosen = np.arange(len(theirs)), self.probabilities(answers).argmax(1)
        gain: Array = (theirs.max(1) - theirs[rows, chosen])[:, None]
        return gain

    def probabilities(self, answers: Answers) -> Array:
        """The student's `(N, C)`."""
        return np.stack([one["probabilities"] for one in answers.local])

    def features(self, answers: Answers) -> Array:
        """Doubt in several ways, how probable each class is, and which is the most probable."""
        p = self.probabilities(answers)
        ordered = np.sort(p, 1)
        doubt = [entropy(p), ordered[:, -1] - ordered[:, -2], ordered[:, -1], ordered[:, -1] ** 2]
        chosen = np.eye(p.shape[1])[p.argmax(1)]
        return np.concatenate([np.stack(doubt, 1), p, chosen], 1)[:, None]


def entropy(probabilities: Array) -> Array:
    """Of distributions `(N, C)`, in nats.

    Example:
        >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(3).tolist()
        [0.693, 0.0]
    """
    p = probabilities.clip(1e-12, 1)
    return -(p * np.log(p)).sum(1) + 0.0
