"""`ClassTask`: the task of a classifier of pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answer, Answers
from lkd.edge.offload.task import OffloadTask


class ClassTask(OffloadTask):
    """Task of finding a picture's class; a picture is sent whole."""

    name, metrics = "classes", ("acc",)

    def stands(self, answers: Answers, sample: int, sent: Array) -> Answer:
        """Returns the teacher's answer if the picture was sent, else the student's."""
        return answers.remote[sample][0] if sent[0] else answers.local[sample]

    def judged(self, answer: Answer, truth: Answer) -> bool:
        """Returns whether the most probable class is right."""
        return bool(answer["probabilities"].argmax() == truth["label"][0])

    def pooled(self, judged: Sequence[Any]) -> dict[str, float]:
        """Returns the accuracy over all samples."""
        return {"acc": float(np.mean(judged))}

    def marginal(self, judged: Sequence[Any], other: Sequence[Sequence[Any]], metric: str) -> Array:
        """Returns what each sample adds, as accuracy adds up over samples."""
        return (np.array(other, float) - np.array(judged, float)[:, None]) / len(judged)

    def gain(self, answers: Answers) -> Array:
        """Returns the accuracy that the teacher expects to add, by its own probabilities."""
        theirs = np.stack([units[0]["probabilities"] for units in answers.remote])
        rows, chosen = np.arange(len(theirs)), self.probabilities(answers).argmax(1)
        gain: Array = (theirs.max(1) - theirs[rows, chosen])[:, None]
        return gain

    def probabilities(self, answers: Answers) -> Array:
        """Returns the student's probabilities `(N, C)`."""
        return np.stack([one["probabilities"] for one in answers.local])

    def features(self, answers: Answers) -> Array:
        """Returns several measures of doubt, each class's probability, and the most probable class."""
        p = self.probabilities(answers)
        ordered = np.sort(p, 1)
        doubt = [entropy(p), ordered[:, -1] - ordered[:, -2], ordered[:, -1], ordered[:, -1] ** 2]
        chosen = np.eye(p.shape[1])[p.argmax(1)]
        return np.concatenate([np.stack(doubt, 1), p, chosen], 1)[:, None]


def entropy(probabilities: Array) -> Array:
    """Returns the entropies of distributions `(N, C)`, in nats.

    Example:
        >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(3).tolist()
        [0.693, 0.0]
    """
    p = probabilities.clip(1e-12, 1)
    return -(p * np.log(p)).sum(1) + 0.0
