"""Gates of classifiers: three measures of doubt, which agree where there are two classes."""

from typing import cast

import numpy as np

from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answers
from lkd.edge.offload.classes import ClassTask, entropy
from lkd.edge.offload.gates.gate import Gate
from lkd.edge.offload.task import OffloadTask


class OfProbabilities(Gate):
    """Gate that measures the doubt in a distribution, and can be used at an exit of a network, too."""

    task = "classes"

    def score(self, task: OffloadTask, answers: Answers) -> Array:
        """Returns the doubt in each sample's probabilities."""
        return self.doubt(cast(ClassTask, task).probabilities(answers))[:, None]

    def doubt(self, probabilities: Array) -> Array:
        """Measures the doubt `(N,)` in probabilities `(N, C)`."""
        raise NotImplementedError


class Entropy(OfProbabilities):
    """Entropy of the student's distribution, as in BranchyNet (Teerapittayanon et al., ICPR 2016)."""

    name = "entropy"

    def doubt(self, probabilities: Array) -> Array:
        """Returns the entropy in nats."""
        return entropy(probabilities)


class Margin(OfProbabilities):
    """How little the probabilities of the two most probable classes differ."""

    name = "margin"

    def doubt(self, probabilities: Array) -> Array:
        """Returns minus the difference of the two."""
        ordered = np.sort(probabilities, 1)
        return ordered[:, -2] - ordered[:, -1]


class MaxProbability(OfProbabilities):
    """How improbable the most probable class is."""

    name = "max probability"

    def doubt(self, probabilities: Array) -> Array:
        """Returns one minus its probability."""
        return 1 - probabilities.max(1)
